"""Faults under load, and the proof that nothing was lost or doubled; see ``app drill``."""
