"""The composition root of a process: role names in, running actors out."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar, cast

from purveyor.kit import failpoints
from purveyor.kit.cache import SharedCache
from purveyor.kit.db.databases import Databases, Schema
from purveyor.kit.errors import ConfigError, StartupError
from purveyor.kit.events.message import Ask
from purveyor.kit.events.transport import Asker, EventTransport
from purveyor.kit.http.health import Health, examine
from purveyor.kit.limits.memory import Backoff, Limiter, MemoryBackoff, MemoryLimiter
from purveyor.kit.process.background import Background
from purveyor.kit.process.supervisor import Supervisor
from purveyor.kit.retry import stand_in, wait_for_server
from purveyor.kit.role import Actor, Check, Port, Role
from purveyor.registry import ROLES
from purveyor.role_env import RoleEnv
from purveyor.settings import Settings, Sources, require_scheme
from purveyor.transports.local import LocalAsker
from purveyor.transports.postgres import SCHEMA as EVENTS
from purveyor.transports.postgres import PostgresEvents

log = logging.getLogger(__name__)

R = TypeVar("R")
T = TypeVar("T")


def choose_roles(names: Sequence[str]) -> list[Role[Any]]:
    """The declared roles with these names, in the registry's order. Raises ``ConfigError`` for an unknown one."""
    for name in names:
        if name not in ROLES:
            raise ConfigError(f"There is no role {name!r}. Available roles: {', '.join(ROLES)}.")
    if not names:
        raise ConfigError(f"No role was given. Available roles: {', '.join(ROLES)}.")
    return [role for role in ROLES.values() if role.name in names]


class Host:
    """Builds, supervises and stops the actors of one process.

    ``processes`` share this process's part of in-process limits. A ``console`` host answers asks only: it
    runs no background task, may lack the roles that its own need, and brings no schema up to date but those of
    the embedded database. One for ``doctor`` is a console that comes up whatever is away: the checks tell. An
    ``offline`` one reaches no server at all: it is only asked for its routes.
    """

    def __init__(
        self,
        roles: Sequence[Role[Any]],
        sources: Sources,
        *,
        processes: int = 1,
        console: bool = False,
        doctor: bool = False,
        offline: bool = False,
    ) -> None:
        self.roles, self.sources = list(roles), sources
        self.settings = sources.load(Settings)
        self.actors: dict[str, Actor] = {}
        self.answers: dict[type[Ask[Any]], Any] = {}
        self.started = self.stopping = False
        self.limiter: Limiter = MemoryLimiter(share=processes)
        self.backoff: Backoff = MemoryBackoff()
        self.shared_cache: SharedCache | None = None
        self.shared_checks: list[Check] = []
        if self.settings.production:
            failpoints.refuse()
        self._role_settings = {role.name: sources.load(role.settings) for role in roles}
        self.console, self._offline, self._doctor = console or doctor or offline, offline, doctor
        self._startup_wait_s = 0.0 if console or doctor else self.settings.startup_wait_s
        self._stack, self._peers = AsyncExitStack(), dict[type[Port], Any]()
        self._events_trouble: StartupError | None = None
        self.databases = Databases(
            self._configured_dsn,
            self.settings.data_dir,
            self._stack,
            statement_cache=self.settings.database_statement_cache,
            wait_s=self._startup_wait_s,
            migration_wait_s=self.settings.startup_wait_s,
            processes=processes,
            looking=console or doctor,
            stand_in=stand_in if doctor else None,
            offline=self._offline,
        )
        self._supervisor: Supervisor | None = None
        self._check_settings()

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
            self.events = self.event_transport()
            await self._open_events()
            for role in self.roles:
                env = RoleEnv(self, role)
                actor = await self._stack.enter_async_context(role.build(env, self._role_settings[role.name]))
                self.actors[role.name] = actor
                self.answers.update(actor.answers)
            if not self.console:
                self._start_background(self._supervisor)
            self.started = True
            try:
                yield self
            finally:
                self.stopping = True
                await self._supervisor.stop()

    async def ask(self, message: Ask[R]) -> R:
        """Ask an actor of this process."""
        return await LocalAsker(self.answers, timeout_s=self.settings.ask_timeout_s).ask(message)

    async def health(self) -> Health:
        """How the roles and their dependencies are, right now."""
        return await examine(self.checks(), self._supervisor.troubles() if self._supervisor else {})

    def checks(self) -> dict[str, list[Check]]:
        """The dependency checks of each role: the actor's own, and those of what the host gave it."""
        checks = {name: list(actor.checks) for name, actor in self.actors.items()}
        kind = "external" if self.settings.rabbitmq_url or self.settings.database_url else "embedded"
        name = "rabbitmq" if self.settings.rabbitmq_url else "events"
        for role in self.roles:  # a running process goes on without events, but none starts without them
            if role.emits or role.consumes:
                setting = "RABBITMQ_URL" if self.settings.rabbitmq_url else "DATABASE_URL"
                check = Check(name, kind, self.check_events, required=self.console, setting=setting)
                checks[role.name].append(check)
            for port in [port for port in role.needs if port in self._peers]:
                peer, setting = self._peers[port], port.service.upper()
                check = Check(
                    f"{port.role} at {peer.peer}", "external", peer.check, required=self.console, setting=setting
                )
                checks[role.name].append(check)
        return checks

    def asker(self, kind: type[Port]) -> Asker:
        """How asks reach the role behind a port: directly when it is here, over HTTP when it is elsewhere."""
        url = getattr(self.settings, kind.service)
        if self._is_here(kind) or not url:
            return LocalAsker(self.answers, timeout_s=self.settings.ask_timeout_s)
        from purveyor.transports.http import HttpAsker, http_client

        client = http_client(url)
        self._stack.push_async_callback(client.aclose)
        self._peers[kind] = asker = HttpAsker(client, timeout_s=self.settings.ask_timeout_s)
        return asker

    def database_setting(self, role: str) -> str:
        """The name of the setting that says which database a role's is."""
        own = f"{role.upper()}_DATABASE_URL"
        return own if self.sources.find(own)[0] else "DATABASE_URL"

    def _configured_dsn(self, role: str | None) -> str:
        """The DSN that the settings give to a role, its own before that of all; empty: the embedded server's."""
        own = self.sources.find(f"{role.upper()}_DATABASE_URL")[0] if role else None
        return own or self.settings.database_url

    def schemas(self) -> list[Schema]:
        """What the roles and their events keep in PostgreSQL, with these settings."""
        schemas = [
            Schema(role.name, role.migrations, role.name)
            for role in self.roles
            if role.migrations and role.is_in_postgres(self._role_settings[role.name])
        ]
        return [*schemas, EVENTS] if self._has_events and not self.settings.rabbitmq_url else schemas

    async def migrate(self) -> list[str]:
        """Bring every schema of the roles up to date; the names of what was applied."""
        async with self._stack:
            return [name for schema in self.schemas() for name in await self.databases.migrate(schema)]

    async def reach(self, connect: Callable[[], Awaitable[T]]) -> T:
        """Connect to a server that may be away: tries again until ``STARTUP_WAIT_S`` is over."""
        try:
            return await wait_for_server(connect, self._startup_wait_s)
        except StartupError as trouble:
            if not self._doctor:
                raise
            return cast("T", stand_in(trouble))

    def event_transport(self) -> EventTransport:
        """What carries the events of this process."""
        if not self.settings.rabbitmq_url:
            return PostgresEvents(self.databases.open(EVENTS))
        from purveyor.transports.rabbitmq.events import RabbitEvents

        return RabbitEvents(
            self.settings.rabbitmq_url,
            queue_type=self.settings.rabbitmq_queue_type,
            startup_wait_s=self._startup_wait_s,
        )

    async def _open_events(self) -> None:
        if self._offline or not self._has_events:
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

    @property
    def _has_events(self) -> bool:
        return any(role.emits or role.consumes for role in self.roles)

    def _warn_of_lonely_events(self) -> None:
        if self.settings.rabbitmq_url or self.settings.database_url:
            return
        if own := [f"{name.upper()}_DATABASE_URL" for name in ROLES if self._configured_dsn(name)]:
            log.warning(
                "%s names a server, but events go through the embedded database: roles on other machines neither "
                "hear them nor are heard. Set RABBITMQ_URL or DATABASE_URL for all of them.",
                ", ".join(own),
            )

    async def check_events(self) -> str:
        """A sign of life of the event transport. Raises what kept it from opening."""
        if self._events_trouble is not None:
            raise self._events_trouble
        return await self.events.check()

    async def _open_shared(self) -> None:
        if self._offline or not self.settings.redis_url:
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

    def _require_neighbours(self) -> None:
        for role in self.roles:
            for port in role.needs:
                if not self._is_here(port) and not getattr(self.settings, port.service):
                    together = ",".join(sorted({port.role, *(r.name for r in self.roles)}, key=list(ROLES).index))
                    raise ConfigError(
                        f"Role {role.name} needs role {port.role}. Run it in this process (--roles {together}), "
                        f"or set {port.service.upper()} to the base URL of the process that runs it."
                    )

    def _is_here(self, port: type[Port]) -> bool:
        return any(role.name == port.role for role in self.roles)

    def _start_background(self, supervisor: Supervisor) -> None:
        for role in self.roles:
            actor = self.actors[role.name]
            for background in actor.background:
                supervisor.start(role.name, background)
            for queue in role.queues():
                handler = actor.subscriptions[queue.event]

                async def consume(queue: Any = queue, handler: Any = handler) -> None:
                    await self.events.consume(queue, handler)

                supervisor.start(role.name, Background(f"consumer of {queue.name}", consume))
