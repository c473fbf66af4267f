"""The composition root of a process: role names in, running actors out."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

import msgspec
from msgspec.structs import fields
from prometheus_client import Gauge

from purveyor.kit import failpoints
from purveyor.kit.cache import SharedCache
from purveyor.kit.caller import CONSOLE
from purveyor.kit.db.databases import Databases
from purveyor.kit.db.schema import Schema
from purveyor.kit.errors import ConfigError, StartupError, Unavailable
from purveyor.kit.events.message import Ask
from purveyor.kit.events.signing import EventSigner, SignedEvents
from purveyor.kit.events.transport import Asker, EventTransport
from purveyor.kit.http.health import Health, examine
from purveyor.kit.limits.memory import Backoff, Limiter, MemoryBackoff, MemoryLimiter
from purveyor.kit.metrics import EVENTS_WAITING, OUTLET_OLDEST_SECONDS, OUTLET_WAITING, Measure
from purveyor.kit.mode import Mode
from purveyor.kit.process.background import Background
from purveyor.kit.process.supervisor import Supervisor
from purveyor.kit.retry import stand_in, wait_for_server
from purveyor.kit.role import Actor, Check, Env, Port, Role
from purveyor.kit.secret_file import MIN_SECRET_BYTES, kept_secret
from purveyor.registry import OUTLET, ROLES, TRANSPORTS
from purveyor.settings import Settings, Sources, Url, require_scheme, url_settings
from purveyor.transports import Transport, TransportEnv
from purveyor.transports.local import LocalAsker

if TYPE_CHECKING:  # a process that asks nobody over HTTP and has no outlet needs none of it
    from purveyor.kit.events.outlet import Outlet, OutletQueue
    from purveyor.kit.http.client import HttpClient
    from purveyor.kit.service_tokens import ServiceTokens
    from purveyor.transports.http import HttpAsker

log = logging.getLogger(__name__)
_CONSOLE_ASK_TIMEOUT_S = 10.0

P = TypeVar("P", bound=Port)
T = TypeVar("T")


def choose_roles(names: Sequence[str]) -> list[Role[Any]]:
    """The declared roles with these names, in the registry's order. Raises ``ConfigError`` for an unknown one."""
    for name in names:
        if name not in ROLES:
            raise ConfigError(f"There is no role {name!r}. Available roles: {', '.join(ROLES)}.")
    if not names:
        raise ConfigError(f"No role was given. Available roles: {', '.join(ROLES)}.")
    return [role for role in ROLES.values() if role.name in names]


def declared_settings(roles: Iterable[Role[Any]]) -> list[type[msgspec.Struct]]:
    """All settings of a process with these roles: shared ones, those of transports and peers, the roles' own."""
    roles = list(roles)
    peers = _peer_settings([port for role in roles for port in (*role.needs, *role.wants)])
    return [
        Settings,
        *(each.settings for each in TRANSPORTS),
        OUTLET.settings,
        peers,
        *(role.settings for role in roles),
    ]


def known_settings() -> frozenset[str]:
    """The names of all settings of all roles."""
    declared = {field.name.upper() for kind in declared_settings(ROLES.values()) for field in fields(kind)}
    return frozenset(declared | {f"{name.upper()}_DATABASE_URL" for name in ROLES})


def _peer_settings(ports: Iterable[type[Port]]) -> type[msgspec.Struct]:
    about = {port.setting: f"base URL of role {port.role}, if it runs in another process" for port in ports}
    return url_settings(about, "http", "https")


def choose_transport(sources: Sources) -> tuple[Transport[Any], Any, Url]:
    """The event transport whose URL is set, else the one that needs none; its settings and its URL.

    Raises ``ConfigError`` for a URL that is not one of its transport's, and for the URLs of two transports.
    """
    chosen: tuple[Transport[Any], Any, Url] | None = None
    for transport in TRANSPORTS:
        settings = sources.load(transport.settings)
        url = getattr(settings, transport.setting.lower(), Url())
        require_scheme(transport.setting, url, *transport.schemes)
        if url and chosen is not None and chosen[2]:
            raise ConfigError(f"Set {chosen[0].setting} or {transport.setting}, not both: events travel one way.")
        if url or (chosen is None and not transport.schemes):
            chosen = transport, settings, url
    if chosen is None:
        raise ConfigError(f"Set {' or '.join(each.setting for each in TRANSPORTS)}: nothing carries the events.")
    return chosen


class Host:
    """Builds, supervises and stops the actors of one process.

    ``processes`` share this process's part of in-process limits. ``mode`` says how much of the roles is started.
    ``events`` opens the event transport even where no role uses it. ``own_url`` takes the place of an empty
    ``PUBLIC_URL``.
    """

    def __init__(
        self,
        roles: Sequence[Role[Any]],
        sources: Sources,
        *,
        processes: int = 1,
        mode: Mode = Mode.SERVE,
        events: bool = False,
        own_url: str = "",
    ) -> None:
        self.roles, self.sources, self.mode = list(roles), sources, mode
        self.settings = sources.load(Settings)
        self.actors: dict[str, Actor] = {}
        self.answers: dict[type[Ask[Any]], Any] = {}
        self.started = self.stopping = False
        self.public_url = self.settings.public_url.rstrip("/") or own_url
        self.limiter: Limiter = MemoryLimiter(share=processes)
        self.backoff: Backoff = MemoryBackoff()
        self.shared_cache: SharedCache | None = None
        self.shared_checks: list[Check] = []
        if self.settings.production:
            failpoints.refuse()
        self.transport, self._transport_settings, self._transport_url = choose_transport(sources)
        self._outlet_settings = sources.load(OUTLET.settings)
        self._role_settings = {role.name: sources.load(role.settings) for role in roles}
        self._startup_wait_s = 0.0 if mode in (Mode.CONSOLE, Mode.DOCTOR) else self.settings.startup_wait_s
        self._uses_events = events or any(role.uses_events for role in roles)
        self._stack = AsyncExitStack()
        self._clients: dict[Url, HttpClient] = {}
        self._peers: dict[type[Port], HttpAsker] = {}
        self._events_trouble: StartupError | None = None
        self._outlets: dict[str, Outlet] = {}
        self.databases = Databases(
            self._configured_dsn,
            self.settings.data_dir,
            self._stack,
            statement_cache=self.settings.database_statement_cache,
            wait_s=self._startup_wait_s,
            migration_wait_s=self.settings.startup_wait_s,
            processes=processes,
            mode=mode,
        )
        self._supervisor: Supervisor | None = None
        self._check_settings()

    @property
    def console(self) -> bool:
        """True if the roles only answer asks."""
        return self.mode is not Mode.SERVE

    @property
    def failed(self) -> "asyncio.Future[None]":
        """Ends with a ``StartupError`` when a background task keeps dying."""
        if self._supervisor is None:
            raise RuntimeError("the host is not running")
        return self._supervisor.failed

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Host"]:
        """Start every actor; at the end stop taking events, finish what is in hand, close everything."""
        self._supervisor = Supervisor()
        async with self._stack:
            await self._open_shared()
            self.events = self._signed_events()
            await self._open_events()
            for role in self.roles:
                settings = self._role_settings[role.name]
                actor = await self._stack.enter_async_context(role.build(self._env(role), settings))
                self.actors[role.name] = actor
                self.answers.update(actor.answers)
            await self._open_outlets()
            if not self.console:
                self._start_background(self._supervisor)
            self.started = True
            try:
                yield self
            finally:
                self.stopping = True
                await self._supervisor.stop()

    def _env(self, role: Role[Any]) -> Env:
        def open_database() -> Any:
            if role.migrations is None:
                raise RuntimeError(f"role {role.name} has no migrations")
            return self.databases.open(Schema(role.name, role.migrations, role.name))

        return Env(
            production=self.settings.production,
            console=self.console,
            database_kind="external" if self.databases.configured(role.name) else "embedded",
            data_dir=self.settings.data_dir,
            link_secrets=self.link_secrets,
            public_url=self.public_url,
            limiter=self.limiter,
            backoff=self.backoff,
            shared_cache=self.shared_cache,
            shared_checks=self.shared_checks,
            events=self.events,
            stopping=lambda: self.stopping,
            database=open_database,
            standby=partial(self.databases.open_standby, role.name),
            connect=self.reach,
            asker=partial(self.asker, asking=role.name),
            is_here=self.is_here,
            can_ask=lambda kind: self.is_here(kind) or bool(self._peer_url(kind)),
            personal_data={name: each.personal_data for name, each in ROLES.items() if each.personal_data},
        )

    def port(self, kind: type[P]) -> P:
        """The operator's client for what a role offers, wherever it runs."""
        return kind(self.asker(kind, asking=CONSOLE))

    async def health(self) -> Health:
        """Check the roles and their dependencies now."""
        return await examine(self.checks(), self._supervisor.troubles() if self._supervisor else {})

    def checks(self) -> dict[str, list[Check]]:
        """The dependency checks of each role: the actor's own, and those of what the host gave it."""
        checks = {name: list(actor.checks) for name, actor in self.actors.items()}
        for role in self.roles:  # a running process goes on without events, but none starts without them
            if role.uses_events:
                checks[role.name].append(self._events_check())
            if outlet := self._outlets.get(role.name):
                name = f"{OUTLET.name} {role.name}"
                checks[role.name].append(
                    Check(name, "external", outlet.check, required=False, setting=OUTLET.setting)
                )
            for port in [port for port in (*role.needs, *role.wants) if port in self._peers]:
                peer = self._peers[port]
                name = f"{port.role} at {peer.peer}"
                checks[role.name].append(
                    Check(
                        name,
                        "external",
                        peer.check,
                        required=self.console and port in role.needs,
                        setting=port.setting,
                    )
                )
        return checks

    def measures(self) -> dict[Gauge, Measure]:
        """The gauges that are measured when somebody asks for the metrics."""
        found = {gauge: measure for actor in self.actors.values() for gauge, measure in actor.measures.items()}
        queues = [queue for role in self.roles for queue in role.queues()]
        if queues:
            found[EVENTS_WAITING] = partial(self.events.waiting, queues)
        if self._outlets:
            found |= {
                OUTLET_WAITING: partial(self._outlet_waiting, 0),
                OUTLET_OLDEST_SECONDS: partial(self._outlet_waiting, 1),
            }
        return found

    async def _outlet_waiting(self, which: int) -> Mapping[str, float]:
        return {name: (await outlet.waiting())[which] for name, outlet in self._outlets.items()}

    def _events_check(self) -> Check:
        external = bool(self._transport_url or self.settings.database_url)
        return Check(
            self.transport.name if self._transport_url else "events",
            "external" if external else "embedded",
            self.check_events,
            required=self.console,
            setting=self.transport.setting if self._transport_url else "DATABASE_URL",
        )

    def asker(self, kind: type[Port], asking: str) -> Asker:
        """Return ``asking``'s connection to the role behind a port: direct if it is here, else over HTTP."""
        url = self._peer_url(kind)
        if self.is_here(kind) or not url:
            return LocalAsker(self.answers, timeout_s=self._ask_timeout_s, asking=asking)
        from purveyor.transports.http import HttpAsker, http_client

        if url not in self._clients:
            self._clients[url] = http_client(url)
            self._stack.push_async_callback(self._clients[url].aclose)
        sign = partial(self.service_tokens.sign, asking=asking, asked=kind.role) if kind.needs_identity() else None
        asker = HttpAsker(self._clients[url], timeout_s=self._ask_timeout_s, role=kind.role, sign=sign)
        self._peers[kind] = asker
        return asker

    @property
    def _ask_timeout_s(self) -> float:
        """Timeout of an ask. A person at the console has no HTTP client that gives up, so it is longer there."""
        configured = self.settings.ask_timeout_s
        return max(configured, _CONSOLE_ASK_TIMEOUT_S) if self.console else configured

    @cached_property
    def service_tokens(self) -> "ServiceTokens":
        """The identity of this installation's roles. Raises ``ConfigError`` in production without a secret."""
        from purveyor.kit.service_tokens import ServiceTokens

        if not (secret := self.service_secret()):
            raise ConfigError("SERVICE_SECRET: must be set when ENVIRONMENT=production and roles run apart.")
        return ServiceTokens(secret)

    def service_secret(self) -> str:
        """The secret that all processes share: ``SERVICE_SECRET``, else in development the one in ``DATA_DIR``.

        Empty in production without a setting. Raises ``ConfigError`` if none can be kept.
        """
        if self.settings.service_secret or self.settings.production:
            return self.settings.service_secret.reveal()
        try:
            return kept_secret(self.settings.data_dir / "service-secret")
        except OSError as error:
            raise ConfigError(f"SERVICE_SECRET: is empty, and none can be kept in DATA_DIR ({error}).") from error

    def link_secrets(self) -> Sequence[str]:
        """The secrets that sign links: the shared one, then those in the settings of the roles here."""
        try:
            shared = self.service_secret()
        except ConfigError as error:
            log.warning("%s Emails have no signed links.", error)
            shared = ""
        own = [role.secret(self._role_settings[role.name]) for role in self.roles]
        return [secret for secret in (shared, *own) if secret]

    @property
    def can_be_asked(self) -> bool:
        """True if other processes can ask this one: they cannot where a production process has no secret."""
        has_private = any(not ask.route for ask in self.answers)
        return has_private and bool(self.settings.service_secret or not self.settings.production)

    def callers(self) -> Mapping[type[Ask[Any]], frozenset[str]]:
        """The roles that may make each ask over HTTP: those that declare the need, and the operator."""
        return {
            ask: frozenset(
                {CONSOLE}
                | {role.name for role in ROLES.values() for port in (*role.needs, *role.wants) if ask in port.asks}
            )
            for ask in self.answers
        }

    def database_setting(self, role: str) -> str:
        """The name of the setting that says which database a role's is."""
        own = f"{role.upper()}_DATABASE_URL"
        return own if self.sources.find(own)[0] else "DATABASE_URL"

    def _configured_dsn(self, role: str | None) -> str:
        """The DSN that the settings give to a role, its own before that of all; empty: the embedded server's."""
        own = self.sources.find(f"{role.upper()}_DATABASE_URL")[0] if role else None
        return own or self.settings.database_url

    def schemas(self) -> list[Schema]:
        """The PostgreSQL schemas of the roles and their events, with these settings."""
        schemas = [
            Schema(role.name, role.migrations, role.name)
            for role in self.roles
            if role.migrations and role.is_in_postgres(self._role_settings[role.name])
        ]
        return [*schemas, self.transport.schema] if self._uses_events and self.transport.schema else schemas

    async def migrate(self) -> list[str]:
        """Bring every schema of the roles up to date; the names of what was applied."""
        async with self._stack:
            return [name for schema in self.schemas() for name in await self.databases.migrate(schema)]

    async def reach(self, connect: Callable[[], Awaitable[T]]) -> T:
        """Connect to a server that may be away: tries again until ``STARTUP_WAIT_S`` is over."""
        try:
            return await wait_for_server(connect, self._startup_wait_s)
        except StartupError as trouble:
            if self.mode is not Mode.DOCTOR:
                raise
            return cast("T", stand_in(trouble))

    def event_transport(self) -> EventTransport:
        """Create the event transport of this process."""
        env = TransportEnv(startup_wait_s=self._startup_wait_s, database=self.databases.open)
        return self.transport.open(env, self._transport_settings)

    def _signed_events(self) -> SignedEvents:
        secret = self.settings.service_secret.reveal()
        exposed = bool(self._transport_url or self.settings.database_url)
        return SignedEvents(self.event_transport(), EventSigner(secret) if secret else None, exposed=exposed)

    async def _open_events(self) -> None:
        if self.mode is Mode.OFFLINE or not self._uses_events:
            return
        if not self.console:
            self._warn_of_lonely_events()
        self._stack.push_async_callback(self.events.close)
        try:
            await self.events.open([queue for role in ROLES.values() for queue in role.queues()])
        except StartupError as trouble:
            if not self.console:
                raise
            self._events_trouble = trouble  # the rest of the role can still be asked and examined

    async def _open_outlets(self) -> None:
        queues = {name: actor.outlet for name, actor in self.actors.items() if actor.outlet}
        if self.mode is Mode.OFFLINE:
            return
        if not self.console:
            for name, queue in queues.items():
                try:
                    await self._switch_outlet(name, queue)
                except Unavailable as away:
                    raise StartupError(f"Role {name}: {away}") from away
        if not OUTLET.is_set(self._outlet_settings):
            return
        for name in (role.name for role in self.roles if role.emits and role.name not in queues):
            log.warning("The events of role %s are not published to the outlet.", name)
        from purveyor.kit.events.outlet import Outlet

        server = OUTLET.open(self._outlet_settings)
        self._stack.push_async_callback(server.close)
        self._outlets = {name: Outlet(name, queue, server) for name, queue in queues.items()}

    async def _switch_outlet(self, name: str, queue: "OutletQueue") -> None:
        if OUTLET.is_set(self._outlet_settings):
            await queue.switch_on()
        elif await queue.is_on():
            if OUTLET.is_off(self._outlet_settings):
                await queue.switch_off()
                log.info("role %s keeps no more events for the outlet", name)
            else:
                log.warning(
                    "Role %s keeps its events for an outlet, but %s is empty. Set it, or set it to off.",
                    name,
                    OUTLET.setting,
                )

    def _warn_of_lonely_events(self) -> None:
        if self._transport_url or self.settings.database_url:
            return
        if own := [f"{name.upper()}_DATABASE_URL" for name in ROLES if self._configured_dsn(name)]:
            brokers = [each.setting for each in TRANSPORTS if each.schemes]
            log.warning(
                "%s names a server, but events go through the embedded database: roles on other machines neither "
                "send nor receive them. Set %s for all of them.",
                ", ".join(own),
                " or ".join([*brokers, "DATABASE_URL"]),
            )

    async def check_events(self) -> str:
        """A sign of life of the event transport. Raises what kept it from opening."""
        if self._events_trouble is not None:
            raise self._events_trouble
        return await self.events.check()

    async def _open_shared(self) -> None:
        if self.mode is Mode.OFFLINE or not self.settings.redis_url:
            return
        from purveyor.kit.limits.redis import RedisBackoff, RedisCache, RedisLimiter, open_redis

        client = await self._stack.enter_async_context(open_redis(self.settings.redis_url))
        self.limiter = RedisLimiter(client, fallback=self.limiter)
        self.backoff = RedisBackoff(client, fallback=self.backoff)
        self.shared_cache = RedisCache(client)
        self.shared_checks = [Check("redis", "external", client.check, required=False, setting="REDIS_URL")]

    def _check_settings(self) -> None:
        for name in (role.name for role in self.roles):
            require_scheme(f"{name.upper()}_DATABASE_URL", self._configured_dsn(name), "postgresql", "postgres")
        if not self.console:
            self._require_neighbours()
            for role in self.roles:
                role.check(self._role_settings[role.name], self.settings.production)
            self._require_identity()

    def _require_neighbours(self) -> None:
        for role in self.roles:
            for port in role.needs:
                if not self.is_here(port) and not self._peer_url(port):
                    together = ",".join(_ordered({port.role, *(r.name for r in self.roles)}))
                    raise ConfigError(
                        f"Role {role.name} needs role {port.role}. Run it in this process (--roles {together}), "
                        f"or set {port.setting} to the base URL of the process that runs it."
                    )

    def _require_identity(self) -> None:
        """In production, roles that ask or signal others in other processes need ``SERVICE_SECRET``."""
        if not self.settings.production or self.settings.service_secret:
            return
        here = {role.name for role in self.roles}
        asked = {port.role for role in self.roles for port in role.needs}
        asking = {role.name for role in ROLES.values() if any(port.role in here for port in role.needs)}
        signing = {name for name, role in ROLES.items() if role.signs_events}
        if apart := (asked | asking | (signing if signing & here else set())) - here:
            raise ConfigError(
                "SERVICE_SECRET: must be set when ENVIRONMENT=production and roles run apart (here "
                f"{', '.join(_ordered(here))}; elsewhere {', '.join(_ordered(apart))}): "
                f"at least {MIN_SECRET_BYTES} bytes, the same in every process."
            )

    def is_here(self, port: type[Port]) -> bool:
        """Return whether the role behind a port runs in this process."""
        return any(role.name == port.role for role in self.roles)

    def _peer_url(self, port: type[Port]) -> Url:
        return Url(getattr(self.sources.load(_peer_settings([port])), port.setting.lower()))

    def _start_background(self, supervisor: Supervisor) -> None:
        for role in self.roles:
            actor = self.actors[role.name]
            for background in actor.background:
                supervisor.start(role.name, background)
            if role.name in self._outlets:
                supervisor.start(role.name, Background("outlet", self._outlets[role.name].run))
            for queue in role.queues():
                handler = actor.subscriptions[queue.event]

                async def consume(queue: Any = queue, handler: Any = handler) -> None:
                    await self.events.consume(queue, handler)

                supervisor.start(role.name, Background(f"consumer of {queue.name}", consume))


def _ordered(names: Iterable[str]) -> list[str]:
    """Role names in the registry's order."""
    return sorted(names, key=list(ROLES).index)
