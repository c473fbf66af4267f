"""What a schema in PostgreSQL is, for declarations: it brings no driver with it."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Schema:
    """A schema and its migrations. ``role`` owns it; ``None``: every role uses it, as the events."""

    name: str
    migrations: Path
    role: str | None
