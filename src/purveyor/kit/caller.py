"""Who makes the ask that is being answered: a role, or the operator at the console."""

from contextvars import ContextVar

CONSOLE = "console"

asking_role: ContextVar[str] = ContextVar("asking_role", default="")
"""The name of the role, or ``CONSOLE``; empty where a person asked through a public route."""
