"""Supervision of background tasks and worker processes, exit codes."""
