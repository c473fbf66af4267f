"""The declaration of a role, and the parts of a running one.

Each ``role.py`` holds a declaration and its ``build``. Heavy imports belong inside ``build``, so that a process
imports only the roles that it runs.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from purveyor import __version__
from purveyor.kit.cache import SharedCache
from purveyor.kit.events.message import Ask, Event
from purveyor.kit.events.signing import is_signed
from purveyor.kit.events.transport import Answers, Asker, EventHandler, EventTransport, Queue
from purveyor.kit.limits.memory import Backoff, Limiter
from purveyor.kit.process.background import Background

if TYPE_CHECKING:
    from prometheus_client import Gauge  # slow to import for a short command

    from purveyor.kit.events.outbox import Outbox  # it imports the database driver
    from purveyor.kit.events.outlet import OutletQueue
    from purveyor.kit.metrics import Measure

S = TypeVar("S")
P = TypeVar("P", bound="Port")

BUILT_IN = f"purveyor {__version__}"


class Port:
    """Base of the typed client of a role. Subclasses add a method for each ask."""

    role: ClassVar[str]
    setting: ClassVar[str]
    """The setting with the base URL of that role's process, such as ``AUTH_SERVICE``."""
    asks: ClassVar[tuple[type[Ask[Any]], ...]]

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    @classmethod
    def needs_identity(cls) -> bool:
        """Return whether some of its asks need a service token; the others forward a user's bearer token."""
        return not all(ask.route for ask in cls.asks)


@dataclass(frozen=True)
class Check:
    """Check of a dependency for ``/health/ready`` and ``app doctor``.

    ``probe`` returns a short description or raises. The role cannot work without a ``required`` dependency.
    """

    name: str
    kind: str
    """``embedded`` or ``external``."""
    probe: Callable[[], Awaitable[str]]
    required: bool = True
    server: str = ""
    """The server for error messages, such as ``MongoDB at db.test:27017``."""
    setting: str = ""
    """The setting of an external server; empty means that of the role's database."""


@dataclass(frozen=True)
class Actor:
    """A role running in this process."""

    routes: Sequence[Any] = ()
    answers: Answers = field(default_factory=dict)
    subscriptions: Mapping[type[Event], EventHandler] = field(default_factory=dict)
    background: Sequence[Background] = ()
    checks: Sequence[Check] = ()
    outbox: "Outbox | None" = None
    outlet: "OutletQueue | None" = None
    """``None``: the role's events are not published to ``KAFKA_OUTLET``."""
    measures: "Mapping[Gauge, Measure]" = field(default_factory=dict)
    """Gauges of ``kit.metrics.SHARED``. They are measured for ``/metrics``, at most once a second."""


@dataclass(frozen=True, kw_only=True)
class Env:
    """The environment that the host passes to a role's ``build``."""

    production: bool
    console: bool
    """True if this process only answers an operator, for whom every unavailable dependency is a failure."""
    database_kind: str
    """``embedded`` or ``external``."""
    data_dir: Path
    public_url: str
    """The base URL of links to pages, without a slash at its end; empty: none is known."""
    link_secrets: Callable[[], Sequence[str]]
    """The secrets for ``LinkTokens``, the same in all processes: the first signs, all verify; may be empty."""
    limiter: Limiter
    backoff: Backoff
    shared_cache: SharedCache | None
    """``None``: each process has only a cache of its own."""
    shared_checks: Sequence[Check]
    """The checks of ``limiter``, ``backoff`` and ``shared_cache``. A role that uses one adds them to its own."""
    events: EventTransport
    stopping: Callable[[], bool]
    """True once the process drains; long-lived responses and loops then end."""
    database: Callable[[], AbstractAsyncContextManager[Any]]
    """Opens the role's ``kit.db.postgres.Database`` with a migrated schema."""
    standby: Callable[[str], AbstractAsyncContextManager[Any]]
    """Opens the ``kit.db.postgres.Database`` of a DSN that names a standby of the role's database."""
    connect: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
    """Retries a connection for ``STARTUP_WAIT_S``; raises ``StartupError``."""
    asker: Callable[[type[Port]], Asker]
    is_here: Callable[[type[Port]], bool]
    """True if the role behind a port runs in this process."""
    can_ask: Callable[[type[Port]], bool]
    """True if the role behind a port runs here, or its URL is set."""
    personal_data: "Mapping[str, HoldsPersonalData]"
    """By role, for all roles of the registry that hold personal data."""

    def port(self, kind: type[P]) -> P:
        return kind(self.asker(kind))


@dataclass(frozen=True)
class HoldsPersonalData:
    """The events with which a role reports the erasure and the export of a user's data."""

    erased: type[Event]
    """With the member ``user_id``, and optionally ``retained``: how much is kept until another such event."""
    exported: type[Event]
    """With the members ``export_id``, ``part``, ``parts`` and ``document``, a JSON array."""


@dataclass(frozen=True, kw_only=True)
class Role(Generic[S]):
    """Declaration of a role. Nothing starts before ``build`` is entered."""

    name: str
    serves: str
    """Short description for ``app roles``."""
    settings: type[S]
    build: Callable[[Env, S], AbstractAsyncContextManager[Actor]]
    check: Callable[[S, bool], None] = lambda _settings, _production: None
    """Raises ``ConfigError`` for incompatible settings before anything starts; the flag means production."""
    needs: tuple[type[Port], ...] = ()
    wants: tuple[type[Port], ...] = ()
    """Ports that it uses where ``Env.can_ask`` says so; it starts without them."""
    offers: tuple[type[Port], ...] = ()
    emits: tuple[type[Event], ...] = ()
    consumes: Mapping[type[Event], str] = field(default_factory=dict)
    """Event types with the name of their queue."""
    migrations: Path | None = None
    in_postgres: Callable[[S], bool] | None = None
    """True if the settings put its data, and so its outbox, into PostgreSQL; ``None``: always."""
    secret: Callable[[S], str] = lambda _settings: ""
    """A secret in its settings. It signs links in this process where the shared secret is not set."""
    reads_events: bool = False
    """True if it uses the event transport without emitting or consuming, to show dead letters."""
    personal_data: HoldsPersonalData | None = None
    """Answers to the events in ``collects_personal_data``, if the role holds personal data."""
    collects_personal_data: tuple[type[Event], ...] = ()
    """The events with which it asks every role that holds personal data. It consumes all their answers."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """Tags of its routes in the OpenAPI document with their descriptions."""
    pages: Mapping[str, str] = field(default_factory=dict)
    """Titles and paths of the pages that are logged at startup."""
    contract_version: int = 0
    """The version that a role of another package was written for; see ``plugins.CONTRACT_VERSION``."""
    origin: str = BUILT_IN
    """The name and the version of its package. The registry sets it for other packages."""

    @property
    def uses_events(self) -> bool:
        return bool(self.emits or self.consumes or self.reads_events)

    @property
    def signs_events(self) -> bool:
        """True if it exchanges events that carry a signature."""
        return any(is_signed(event.type) for event in (*self.emits, *self.consumes))

    def is_in_postgres(self, settings: S) -> bool:
        return self.in_postgres is None or self.in_postgres(settings)

    def queues(self) -> tuple[Queue, ...]:
        return tuple(Queue(name=name, event=event, role=self.name) for event, name in self.consumes.items())


def by_name(*roles: Role[Any]) -> dict[str, Role[Any]]:
    """The roles by their names, after those that collect personal data were told who holds some.

    Raises ``ValueError`` for a role that holds personal data and does not hear a request for it, or cannot answer.
    """
    holders = [(role, role.personal_data) for role in roles if role.personal_data]
    requests = {event for role in roles for event in role.collects_personal_data}
    for role, holds in holders:
        if missing := (requests - set(role.consumes)) | ({holds.erased, holds.exported} - set(role.emits)):
            names = ", ".join(sorted(event.type for event in missing))
            raise ValueError(f"role {role.name} holds personal data and does not consume or emit {names}")
    answers = {event: event.type for _, holds in holders for event in (holds.erased, holds.exported)}
    return {
        role.name: replace(role, consumes={**role.consumes, **answers}) if role.collects_personal_data else role
        for role in roles
    }
