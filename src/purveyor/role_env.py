"""What a host gives to one role."""

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from purveyor.kit.db.databases import Schema
from purveyor.kit.db.postgres import Database
from purveyor.kit.role import Env, Port, Role

if TYPE_CHECKING:  # it imports this module
    from purveyor.host import Host

P = TypeVar("P", bound=Port)
T = TypeVar("T")


class RoleEnv(Env):
    """See ``Env``."""

    def __init__(self, host: "Host", role: Role[Any]) -> None:
        self._host = host
        self._role = role
        self.production = host.settings.production
        self.console = host.console
        self.data_dir = host.settings.data_dir
        self.limiter = host.limiter
        self.backoff = host.backoff
        self.shared_cache = host.shared_cache
        self.shared_checks = host.shared_checks
        self.events = host.events
        self.database_kind = "external" if host.databases.configured(role.name) else "embedded"

    def stopping(self) -> bool:
        """See ``Env``."""
        return self._host.stopping

    def database(self) -> AbstractAsyncContextManager[Database]:
        """See ``Env``."""
        if self._role.migrations is None:
            raise RuntimeError(f"role {self._role.name} has no migrations")
        return self._host.databases.open(Schema(self._role.name, self._role.migrations, self._role.name))

    async def reach(self, connect: Callable[[], Awaitable[T]]) -> T:
        """See ``Env``."""
        return await self._host.reach(connect)

    def port(self, kind: type[P]) -> P:
        """See ``Env``."""
        return kind(self._host.asker(kind))
