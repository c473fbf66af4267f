"""Declaration of a PostgreSQL schema, importable without the driver."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Schema:
    """A schema and its migrations. ``role`` owns it; ``None``: every role uses it, as the events."""

    name: str
    migrations: Path
    role: str | None
