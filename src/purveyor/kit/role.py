"""How a role is declared and what a running one consists of.

A role's ``role.py`` holds the declaration and ``build``; the heavy imports stand inside ``build``, so that a
process pays only for the roles that it runs and ``app roles`` can read every declaration without starting one.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, cast

from purveyor.kit.cache import SharedCache
from purveyor.kit.events.message import Ask, Event
from purveyor.kit.events.transport import Answers, Asker, EventHandler, EventTransport, Queue
from purveyor.kit.limits.memory import Backoff, Limiter
from purveyor.kit.process.background import Background

if TYPE_CHECKING:  # it brings the database driver with it, and declarations are read without starting anything
    from purveyor.kit.events.outbox import Outbox

S = TypeVar("S")
T = TypeVar("T")
P = TypeVar("P", bound="Port")


class Port:
    """A typed client for what another role offers: methods that make the asks. Subclasses add the methods."""

    role: ClassVar[str]
    """The role that answers."""
    setting: ClassVar[str]
    """The setting with the base URL of the process that runs that role, such as ``AUTH_SERVICE``."""
    asks: ClassVar[tuple[type[Ask[Any]], ...]]

    def __init__(self, asker: Asker) -> None:
        self._asker = asker

    @classmethod
    def needs_identity(cls) -> bool:
        """Whether some of its asks travel with a service token; the others carry a person's bearer token."""
        return not all(ask.route for ask in cls.asks)


@dataclass(frozen=True)
class Check:
    """A dependency's sign of life for ``/health/ready`` and ``app doctor``.

    ``probe`` returns a short description or raises; without a ``required`` one the role cannot work at all.
    """

    name: str
    kind: str
    """``embedded`` or ``external``."""
    probe: Callable[[], Awaitable[str]]
    required: bool = True
    server: str = ""
    """Which server it is, such as ``MongoDB at db.test:27017``: said before what is wrong with it."""
    setting: str = ""
    """The setting that names an external one; empty: the one that names the role's database."""


@dataclass(frozen=True)
class Actor:
    """A role running in this process: its inlets, its background tasks, its dependencies."""

    routes: Sequence[Any] = ()
    answers: Answers = field(default_factory=dict)
    subscriptions: Mapping[type[Event], EventHandler] = field(default_factory=dict)
    background: Sequence[Background] = ()
    checks: Sequence[Check] = ()
    outbox: "Outbox | None" = None


@dataclass(frozen=True, kw_only=True)
class Env:
    """What the host gives to a role's ``build``."""

    production: bool
    console: bool
    """Whether this process only answers its operator: to that, whatever is away is down."""
    database_kind: str
    """``embedded`` or ``external``."""
    data_dir: Path
    limiter: Limiter
    backoff: Backoff
    shared_cache: SharedCache | None
    """A cache that all processes share; ``None``: each process has only its own."""
    shared_checks: Sequence[Check]
    """The checks of what is behind ``limiter``, ``backoff`` and ``shared_cache``: a role that uses one adds
    them to its own."""
    events: EventTransport
    stopping: Callable[[], bool]
    """True once the process drains: long-lived responses and loops end."""
    database: Callable[[], AbstractAsyncContextManager[Any]]
    """Opens the role's own ``kit.db.postgres.Database``, its schema up to date, and closes it at the end."""
    connect: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]]
    """See ``reach``."""
    asker: Callable[[type[Port]], Asker]
    """Carries the asks of a port."""
    is_here: Callable[[type[Port]], bool]
    """Whether the role behind a port runs in this process."""
    can_ask: Callable[[type[Port]], bool]
    """Whether the role behind a port runs here, or its URL is set."""
    personal_data: "Mapping[str, HoldsPersonalData]"
    """The roles of the registry that hold personal data."""

    async def reach(self, connect: Callable[[], Awaitable[T]]) -> T:
        """Connect to a server that may be away; waits ``STARTUP_WAIT_S`` for it. Raises ``StartupError``."""
        return cast("T", await self.connect(connect))

    def port(self, kind: type[P]) -> P:
        """A client for what another role offers: in this process or over HTTP, the caller cannot tell."""
        return kind(self.asker(kind))


@dataclass(frozen=True)
class HoldsPersonalData:
    """The events by which a role answers the erasure of a person, and their wish for all that is held on them."""

    erased: type[Event]
    """Has the member ``user_id``."""
    exported: type[Event]
    """Has the members ``export_id``, ``part``, ``parts`` and ``document``, which is a JSON array."""


@dataclass(frozen=True, kw_only=True)
class Role(Generic[S]):
    """A declared slice of the business. Data only: nothing starts before ``build`` is entered."""

    name: str
    serves: str
    """What it does, for ``app roles``: one short line."""
    settings: type[S]
    build: Callable[[Env, S], AbstractAsyncContextManager[Actor]]
    check: Callable[[S, bool], None] = lambda _settings, _production: None
    """Raises ``ConfigError`` for settings that cannot work together, before anything is started; the flag says
    whether this is production."""
    needs: tuple[type[Port], ...] = ()
    wants: tuple[type[Port], ...] = ()
    """Ports that it uses where ``Env.can_ask`` says so; it starts without them."""
    offers: tuple[type[Port], ...] = ()
    emits: tuple[type[Event], ...] = ()
    consumes: Mapping[type[Event], str] = field(default_factory=dict)
    """The event types it hears, each with the name of the queue where they wait for it."""
    migrations: Path | None = None
    in_postgres: Callable[[S], bool] | None = None
    """Whether, with these settings, it keeps its rows in PostgreSQL at all; ``None``: always."""
    reads_events: bool = False
    """Whether it uses the event transport without emitting or consuming, to show dead letters."""
    personal_data: HoldsPersonalData | None = None
    """For a role that holds personal data: its answers to the events in ``collects_personal_data``."""
    collects_personal_data: tuple[type[Event], ...] = ()
    """The events with which it asks every role that holds personal data. It consumes all their answers."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """The groups of its routes in the API document, each with what they are for."""
    pages: Mapping[str, str] = field(default_factory=dict)
    """Pages that are announced at start, where it serves them: title to path."""

    @property
    def uses_events(self) -> bool:
        """Whether the event transport must be open for it."""
        return bool(self.emits or self.consumes or self.reads_events)

    def is_in_postgres(self, settings: S) -> bool:
        """Whether it keeps its rows, and so its outbox, in PostgreSQL."""
        return self.in_postgres is None or self.in_postgres(settings)

    def queues(self) -> tuple[Queue, ...]:
        """The queues of this role."""
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
