"""Rate limits and login throttling, in process and shared through Redis."""
