"""The table of shapes: the arrangements of processes, transports and stores that one suite runs over."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from cheap_hashes import cheap_hashes
from mailboxes import MailFolder
from own_processes import SETTINGS, own_processes
from purveyor.host import Host, choose_roles
from purveyor.process import application, uvicorn_config
from purveyor.registry import ROLES
from purveyor.settings import Sources
from purveyor_drill.servers.process import free_port
from running import Running, public_client
from server_shapes import monolith, split
from shop import Deployment
from wire import WireHost


@dataclass(frozen=True)
class Shape:
    """One line of the table; ``start`` takes an empty folder for everything that the shape keeps."""

    name: str
    start: Callable[[Path], AbstractAsyncContextManager[Deployment]]


class _Server(uvicorn.Server):
    """A server that leaves the signals to pytest."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See ``uvicorn.Server``."""
        yield


@asynccontextmanager
async def _in_this_process(host: Host, settings: Mapping[str, str], folder: Path) -> AsyncIterator[Deployment]:
    port = free_port()
    async with AsyncExitStack() as stack:
        with cheap_hashes():
            await stack.enter_async_context(host.running())
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


@asynccontextmanager
async def wire(folder: Path) -> AsyncIterator[Deployment]:
    """One process, but asks go through the HTTP codec; idempotent asks and all events are doubled."""
    settings = SETTINGS | {"DATA_DIR": str(folder)}
    host = WireHost(choose_roles(list(ROLES)), Sources(environ=settings, dotenv=None))
    async with _in_this_process(host, settings, folder) as running:
        yield running


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
        Shape("monolith", monolith),
        Shape("split", split),
    )
}
