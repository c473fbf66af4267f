"""Fault injection under load, and the proof that nothing was lost or duplicated unrecorded; see ``app drill``."""
