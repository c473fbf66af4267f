"""The mode in which a process hosts its roles."""

from enum import Enum


class Mode(Enum):
    """The mode in which a process hosts its roles."""

    SERVE = "serve"
    """Run the roles. All dependencies are required, and schemas are migrated."""
    CONSOLE = "console"
    """Answer an operator's asks, without background tasks and peers. Only the embedded database is migrated."""
    DOCTOR = "doctor"
    """Like ``CONSOLE``, but start even when dependencies are down, so that the checks can report them."""
    OFFLINE = "offline"
    """Connect to nothing. Only the routes of the roles are read."""
