"""Transports for asks and events. An event transport is declared as data and loaded on first use."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import msgspec

from purveyor.kit.db.schema import Schema
from purveyor.kit.events.transport import EventTransport
from purveyor.kit.role import BUILT_IN

if TYPE_CHECKING:
    from purveyor.kit.events.outlet import OutletServer  # it imports the database driver

S = TypeVar("S", bound=msgspec.Struct)

PRIVATE = "/internal"
"""Prefix of the routes by which roles in other processes ask."""
ANSWERED_BY = "x-answered-by"
"""Header of a role's answer there, errors included: it tells the role's own 404 from that of a missing route."""


@dataclass(frozen=True)
class TransportEnv:
    """The environment that the host passes to a transport's ``open``."""

    startup_wait_s: float
    """Seconds to wait at startup for a server that does not answer."""
    database: Callable[[Schema], AbstractAsyncContextManager[Any]]
    """Opens a ``kit.db.postgres.Database`` on a schema that is up to date."""


@dataclass(frozen=True, kw_only=True)
class Transport(Generic[S]):
    """A declared event transport. The host takes the first one in ``registry.TRANSPORTS`` whose URL is set."""

    name: str
    settings: type[S]
    schemes: tuple[str, ...] = ()
    """The schemes of its URL. Without any it has no URL, and is there whenever no other one is chosen."""
    open: Callable[[TransportEnv, S], EventTransport]
    """Makes the transport; it connects in ``EventTransport.open``. Heavy imports belong inside."""
    schema: Schema | None = None
    """Its schema in PostgreSQL."""
    contract_version: int = 0
    """The version that a transport of another package was written for; see ``plugins.CONTRACT_VERSION``."""
    origin: str = BUILT_IN
    """The name and the version of its package. The registry sets it for other packages."""

    @property
    def setting(self) -> str:
        """The name of the setting with its URL, such as ``NATS_URL``."""
        return f"{self.name.upper()}_URL"


@dataclass(frozen=True, kw_only=True)
class OutletTransport(Generic[S]):
    """A declared server that every event is published to as well. No role consumes from it."""

    name: str
    setting: str
    """The setting that names the server."""
    settings: type[S]
    is_off: Callable[[S], bool]
    """True if the settings say to stop keeping events for it."""
    is_set: Callable[[S], bool]
    open: Callable[[S], "OutletServer"]
    """Makes the connection, which opens at its first use. Heavy imports belong inside."""
