"""A running shape, and how a test reaches it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from forked_console import run
from own_processes import Processes, environment
from shop import Mail, Shop
from waiting import PATIENCE_S


@dataclass
class Running:
    """A running shape; satisfies ``Deployment``. ``settings`` are the environment that it was started with."""

    clients: Mapping[str, httpx.AsyncClient]
    settings: Mapping[str, str]
    folder: Path
    read_mails: Callable[[], Sequence[Mail]]
    shows_mailbox: bool = True

    async def mails(self) -> Sequence[Mail]:
        """See ``Deployment``."""
        return self.read_mails()

    async def console(self, *arguments: str) -> str:
        """See ``Deployment``."""
        done = await asyncio.to_thread(run, *arguments, env=environment(self.settings), cwd=self.folder)
        assert done.returncode == 0, done.stderr
        return done.stdout


@asynccontextmanager
async def public_client(port: int) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server on this machine, with the patience of the suite."""
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        timeout=PATIENCE_S,
        trust_env=False,
        limits=httpx.Limits(max_connections=60),
    ) as client:
        yield client


@asynccontextmanager
async def shops_through(processes: Processes, *names: str) -> AsyncIterator[list[Shop]]:
    """The same shop through each of these processes."""
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(public_client(processes.ports[name])) for name in names]
        yield [Shop(Running({"/": client}, processes.settings, processes.folder, list)) for client in clients]
