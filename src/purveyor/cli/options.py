"""Options shared by several commands, and the host that commands run on."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from purveyor.kit import log
from purveyor.kit.mode import Mode
from purveyor.kit.role import Port
from purveyor.registry import ROLES
from purveyor.settings import Sources

if TYPE_CHECKING:  # imports all server libraries, so commands import it when they run
    from purveyor.host import Host

P = TypeVar("P", bound=Port)
T = TypeVar("T")

ALL_ROLES = ",".join(ROLES)

ROLES_HELP = f"Comma-separated list of roles: {', '.join(ROLES)}."
RolesOption = Annotated[str, typer.Option("--roles", help=ROLES_HELP, show_default=True)]
ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", help="TOML profile, such as configs/split.toml.", show_default=False),
]


def role_names(text: str) -> tuple[str, ...]:
    """Split a comma-separated list of roles."""
    return tuple(name.strip() for name in text.split(",") if name.strip())


def read_sources(profile: Path | None) -> Sources:
    """Read the sources of the settings. Raises ``ConfigError`` for unknown names in the profile."""
    from purveyor.host import known_settings

    sources = Sources(profile)
    sources.refuse_unknown(known_settings())
    return sources


def sources_factory(profile: Path | None) -> partial[Sources]:
    """``read_sources`` as a picklable factory for worker processes."""
    return partial(read_sources, profile)


@asynccontextmanager
async def console(roles: str, profile: Path | None, *, log_level: str = "warning") -> "AsyncIterator[Host]":
    """Run a host without background tasks. Only the embedded database is migrated."""
    from purveyor.host import Host, choose_roles

    log.configure("console", log_level)
    host = Host(choose_roles(role_names(roles)), read_sources(profile), mode=Mode.CONSOLE)
    async with host.running():
        yield host


@asynccontextmanager
async def reaching(
    *kinds: type[Port], profile: Path | None, log_level: str = "warning", events: bool = False
) -> "AsyncIterator[Host]":
    """A host that can ask through these ports: over HTTP where the port's setting is set, else by itself."""
    from purveyor.host import Host, choose_roles

    log.configure("console", log_level)
    sources = read_sources(profile)
    here = [kind.role for kind in kinds if not sources.find(kind.setting)[0]]
    roles = choose_roles(here) if here else []
    async with Host(roles, sources, mode=Mode.CONSOLE, events=events).running() as host:
        yield host


async def asked(kind: type[P], question: Callable[[P], Awaitable[T]], profile: Path | None) -> T:
    """Give the answer of one role to the operator's question."""
    async with reaching(kind, profile=profile) as host:
        return await question(host.port(kind))


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run the coroutine of a command."""
    return asyncio.run(work)
