"""What a process is started for."""

from enum import Enum


class Mode(Enum):
    """What a host does with its roles."""

    SERVE = "serve"
    """Run them: everything they need must be there, and schemas are brought up to date."""
    CONSOLE = "console"
    """Answer an operator's asks: no background task, no peer needed, no schema migrated but the embedded one."""
    DOCTOR = "doctor"
    """As the console, but it comes up whatever is away, so that the checks can report it."""
    OFFLINE = "offline"
    """Reach no server at all: the roles are only asked for their routes."""
