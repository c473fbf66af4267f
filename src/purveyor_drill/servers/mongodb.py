"""A private MongoDB: ``mongod`` if it is installed, otherwise SecantusDB, which speaks its protocol."""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from pymongo import MongoClient
from pymongo.errors import PyMongoError

from purveyor_drill.servers.server import Server


class MongoServer(Server):
    """``durable``: an acknowledged write survives ``kill -9`` (SecantusDB is much slower with it)."""

    name: ClassVar[str] = "mongodb"
    variable: ClassVar[str] = "TEST_MONGODB_URI"

    def __init__(self, *, durable: bool = False) -> None:
        super().__init__()
        self._durable = durable

    @classmethod
    def _missing(cls) -> str | None:
        if _mongod() or _secantusd().exists():
            return None
        return "mongod is not on the PATH, and the package secantusdb is not installed"

    @staticmethod
    def genuine() -> bool:
        """Return whether it is MongoDB itself: SecantusDB manages only a few dozen writes a second."""
        return _mongod() is not None

    def _own_url(self) -> str:
        return f"mongodb://127.0.0.1:{self.port}/?directConnection=true"

    def _prepare(self) -> None:
        super()._prepare()
        (self.folder / "data").mkdir()
        (self.folder / "secantusd.toml").touch()  # by default it reads one in /etc

    def _command(self) -> Sequence[str]:
        port, data = str(self.port), str(self.folder / "data")
        mongod = _mongod()
        if mongod:
            # It writes its journal to the kernel at once, so kill -9 loses nothing that was acknowledged.
            return [mongod, "--bind_ip", "127.0.0.1", "--port", port, "--dbpath", data, "--quiet"]
        command = [str(_secantusd()), "--config", str(self.folder / "secantusd.toml")]
        command += ["--host", "127.0.0.1", "--port", port, "--storage-path", data, "--cache-size", "512M"]
        return [*command, "--sync-on-commit"] if self._durable else command

    def _ready(self) -> bool:
        try:
            with MongoClient[dict[str, Any]](self.url, timeoutMS=500) as client:
                client.admin.command("ping")
        except PyMongoError:
            return False
        return True


def _mongod() -> str | None:
    return shutil.which("mongod")


def _secantusd() -> Path:
    return Path(sys.executable).parent / "secantusd-py"
