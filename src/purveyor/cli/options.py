"""The options that several commands share, and what they turn into."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from purveyor.kit import log
from purveyor.registry import ROLES
from purveyor.settings import Settings, Sources

if TYPE_CHECKING:  # it brings every server's library with it: commands import it where they run it
    from purveyor.host import Host

T = TypeVar("T")

ALL_ROLES = ",".join(ROLES)

ROLES_HELP = f"Roles, separated by commas: any of {', '.join(ROLES)}."
RolesOption = Annotated[str, typer.Option("--roles", help=ROLES_HELP, show_default=True)]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="A TOML profile, such as configs/split.toml.", show_default=False),
]


def role_names(text: str) -> tuple[str, ...]:
    """The names in a comma-separated list."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def read_sources(profile: Path | None) -> Sources:
    """The settings' sources, checked for names that do not exist."""
    sources = Sources(profile)
    role_databases = [f"{name.upper()}_DATABASE_URL" for name in ROLES]
    sources.refuse_unknown([Settings, *(role.settings for role in ROLES.values())], role_databases)
    return sources


def sources_factory(profile: Path | None) -> partial[Sources]:
    """``read_sources`` for a process that is yet to be made."""
    return partial(read_sources, profile)


@asynccontextmanager
async def console(roles: str, profile: Path | None, *, log_level: str = "warning") -> "AsyncIterator[Host]":
    """A host without background tasks, to ask its actors something. It migrates no server of the user's own."""
    from purveyor.host import Host, choose_roles

    log.configure("console", log_level)
    host = Host(choose_roles(role_names(roles)), read_sources(profile), console=True)
    async with host.running():
        yield host


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's coroutine to its end."""
    return asyncio.run(work)
