"""A private Redis: it writes nothing to disk, so it is empty after a restart."""

import shutil
from collections.abc import Sequence
from typing import ClassVar

from purveyor_drill.servers.process import talk
from purveyor_drill.servers.server import Server

DATABASES = 1024


class RedisServer(Server):
    """``redis-server``, or its fork ``valkey-server``."""

    name: ClassVar[str] = "redis"
    variable: ClassVar[str] = "TEST_REDIS_URL"

    @classmethod
    def _missing(cls) -> str | None:
        return None if _binary() else "neither redis-server nor valkey-server is on the PATH"

    def _own_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def flush(self) -> None:
        """Delete every key, as an eviction or an operator would. Raises ``OSError`` if it does not answer."""
        self._running()
        if not talk(self.port, b"FLUSHALL\r\n").startswith(b"+OK"):
            raise OSError(f"{self.name} did not answer to FLUSHALL")

    def _command(self) -> Sequence[str]:
        options = {"port": str(self.port), "bind": "127.0.0.1", "dir": str(self.folder)}
        options |= {"save": "", "appendonly": "no", "daemonize": "no", "databases": str(DATABASES)}
        return [_binary() or "", *(word for key, value in options.items() for word in (f"--{key}", value))]

    def _ready(self) -> bool:
        return talk(self.port, b"PING\r\n").startswith(b"+PONG")


def _binary() -> str | None:
    return shutil.which("redis-server") or shutil.which("valkey-server")
