"""The caller of the ask that is being answered: a role, or the operator at the console."""

from contextvars import ContextVar

CONSOLE = "console"

asking_role: ContextVar[str] = ContextVar("asking_role", default="")
"""The name of the role, or ``CONSOLE``; empty for a request through a public route."""
