"""The table of shapes: the arrangements of processes, transports and stores that one suite runs over."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from litestar.types import Receive, Scope, Send

from purveyor.host import Host, choose_roles
from purveyor.kit.edge import Edge
from purveyor.kit.message import Envelope
from purveyor.kit.role import Port
from purveyor.kit.transport import Asker, DeadLetter, EventHandler, EventTransport, Queue
from purveyor.process import application, uvicorn_config
from purveyor.registry import ROLES
from purveyor.settings import Sources
from purveyor.transports.http import HttpAsker, http_client
from servers.process import Child, free_port, talk
from shop import Deployment, Mail

SETTINGS = {
    "TRUSTED_PROXIES": "127.0.0.0/8",  # a test says where a customer comes from with X-Forwarded-For
    "RATE_LIMIT_ORDERS": "200/minute",
    "LOG_LEVEL": "warning",
}
_START_S = 30.0
_STOP_S = 25.0


@dataclass(frozen=True)
class Shape:
    """One line of the table; ``start`` takes an empty folder for everything that the shape keeps."""

    name: str
    start: Callable[[Path], AbstractAsyncContextManager[Deployment]]


class MailFolder:
    """The files of a development mailbox."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, Mail] = {}

    def read(self) -> Sequence[Mail]:
        """Every mail, oldest first: the file names are UUIDv7."""
        for path in sorted(self._folder.glob("*.eml")):
            if path.name not in self._read:
                self._read[path.name] = Mail(path.read_bytes())
        return [self._read[name] for name in sorted(self._read)]


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
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "purveyor", *arguments),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(self.settings),
            cwd=self.folder,
        )
        out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return out.decode()


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of ours: nothing of the developer's own settings may change a test."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C.UTF-8", "COLUMNS": "300", **settings}


@asynccontextmanager
async def public_client(port: int) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a server on this machine, which is given ample time but not for ever."""
    async with httpx.AsyncClient(
        base_url=f"http://127.0.0.1:{port}",
        timeout=15.0,
        trust_env=False,
        limits=httpx.Limits(max_connections=60),
    ) as client:
        yield client


class _Server(uvicorn.Server):
    """A server that leaves the signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See ``uvicorn.Server``."""
        yield


@asynccontextmanager
async def _in_this_process(host: Host, settings: Mapping[str, str], folder: Path) -> AsyncIterator[Deployment]:
    port = free_port()
    async with host.running():
        config = uvicorn_config(application(host))
        config.host, config.port = "127.0.0.1", port
        server = _Server(config)
        serving = asyncio.create_task(server.serve())
        while not server.started:
            assert not serving.done()
            await asyncio.sleep(0.01)
        try:
            async with public_client(port) as client:
                yield Running({"/": client}, settings, folder, MailFolder(folder / "mailbox").read)
        finally:
            server.should_exit = True
            await serving


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[Deployment]:
    """Every role in one process, with nothing else installed."""
    settings = SETTINGS | {"DATA_DIR": str(folder)}
    host = Host(choose_roles(list(ROLES)), Sources(environ=settings, dotenv=None))
    async with _in_this_process(host, settings, folder) as running:
        yield running


class _TwiceEvents:
    """An event transport that publishes every event twice, and delivers it twice at the same time."""

    def __init__(self, transport: EventTransport) -> None:
        self._transport = transport

    async def open(self, queues: Sequence[Queue]) -> None:
        await self._transport.open(queues)

    async def close(self) -> None:
        await self._transport.close()

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        await self._transport.publish(envelopes)
        return await self._transport.publish(envelopes)

    async def consume(self, queue: Queue, handler: EventHandler) -> None:
        async def twice(event: Any, envelope: Envelope) -> None:
            outcomes = [handler(event, envelope) for _ in range(2)]
            for error in await asyncio.gather(*outcomes, return_exceptions=True):
                if error is not None:
                    raise error

        await self._transport.consume(queue, twice)

    async def dead_letters(self) -> Sequence[DeadLetter]:
        return await self._transport.dead_letters()

    async def replay(self, queue: str, event_id: str) -> bool:
        return await self._transport.replay(queue, event_id)

    async def check(self) -> str:
        return await self._transport.check()


class _WireHost(Host):
    """A host whose roles only reach each other over the wire format, and meet everything twice."""

    _edge: Edge | None = None

    def asker(self, kind: type[Port]) -> Asker:
        client = http_client("http://wire", httpx.ASGITransport(self._serve))
        return HttpAsker(client, timeout_s=self.settings.ask_timeout_s, repeat=True)

    def event_transport(self) -> EventTransport:
        return _TwiceEvents(super().event_transport())

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._edge = self._edge or application(self)
        await self._edge(scope, receive, send)


@asynccontextmanager
async def wire(folder: Path) -> AsyncIterator[Deployment]:
    """One process, but asks go through the HTTP codec; idempotent asks and all events are doubled."""
    settings = SETTINGS | {"DATA_DIR": str(folder)}
    host = _WireHost(choose_roles(list(ROLES)), Sources(environ=settings, dotenv=None))
    async with _in_this_process(host, settings, folder) as running:
        yield running


@dataclass
class Processes:
    """Processes of the real command line that share their settings; a name for each."""

    folder: Path
    settings: Mapping[str, str]
    ports: dict[str, int] = field(default_factory=dict)
    _children: dict[str, Child] = field(default_factory=dict)

    def start(self, name: str, command: str, roles: str) -> None:
        """Begin to run ``app serve`` or ``app worker``; on the same port as before, if it ran before."""
        port = self.ports.setdefault(name, free_port())
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        listen = "--port" if command == "serve" else "--health-port"
        arguments = [sys.executable, "-m", "purveyor", command, "--roles", roles, listen, str(port)]
        self._children[name] = Child(arguments, env=environment(self.settings), folder=folder)

    async def ready(self, *names: str) -> None:
        """Wait until they take work."""
        for name in names:
            await asyncio.to_thread(self._children[name].wait_ready, lambda n=name: self._is_ready(n), _START_S)

    def _is_ready(self, name: str) -> bool:
        answer = talk(self.ports[name], b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return answer.startswith(b"HTTP/1.1 200")

    async def crash(self, name: str) -> None:
        """``kill -9`` for the process, and for nothing that it started."""
        child = self._children.pop(name)
        os.kill(child.pid, signal.SIGKILL)
        await asyncio.to_thread(child.end, signal.SIGKILL, _STOP_S)

    async def stop(self) -> None:
        """End all that runs, in order and together."""
        ending = [asyncio.to_thread(child.end, signal.SIGTERM, _STOP_S) for child in self._children.values()]
        self._children.clear()
        await asyncio.gather(*ending)


@asynccontextmanager
async def own_processes(folder: Path, **settings: str) -> AsyncIterator[Processes]:
    """No process yet; those that are started share a ``DATA_DIR`` under the folder, and end with it."""
    processes = Processes(folder, SETTINGS | {"DATA_DIR": str(folder / "data")} | settings)
    try:
        yield processes
    finally:
        await processes.stop()


@asynccontextmanager
async def processes(folder: Path) -> AsyncIterator[Deployment]:
    """Three processes of the real command line that share nothing but a ``DATA_DIR``."""
    catalog = free_port()
    async with AsyncExitStack() as stack:
        house = await stack.enter_async_context(
            own_processes(folder, PRODUCTS_API=f"http://127.0.0.1:{catalog}/catalog/products")
        )
        house.ports["catalog"] = catalog
        house.start("catalog", "serve", "catalog")
        house.start("front", "serve", "auth,orders")
        house.start("mails", "worker", "email")
        await house.ready("catalog", "front", "mails")
        clients = {
            "/": await stack.enter_async_context(public_client(house.ports["front"])),
            "/catalog": await stack.enter_async_context(public_client(catalog)),
        }
        mailbox = MailFolder(folder / "data" / "mailbox")
        yield Running(clients, house.settings, folder, mailbox.read, shows_mailbox=False)


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("embedded", embedded),
        Shape("wire", wire),
        Shape("processes", processes),
    )
}
