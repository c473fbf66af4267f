"""The table of shapes: the arrangements of processes, transports and stores that one suite runs over."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cheap_hashes import cheap_hashes
from mailboxes import MailFolder
from own_processes import SETTINGS
from purveyor.host import Host, choose_roles
from purveyor.kit.http.server import http_server
from purveyor.process import application, bind
from purveyor.registry import ROLES
from purveyor.settings import Sources
from running import Running, public_client
from server_shapes import monolith, pooled, split
from shop import Deployment
from wire import WireHost


@dataclass(frozen=True)
class Shape:
    """One line of the table; ``start`` takes an empty folder for everything that the shape keeps."""

    name: str
    start: Callable[[Path], AbstractAsyncContextManager[Deployment]]
    only: str = ""
    """The marker of the tests to run, because nothing else can differ from the shapes before; empty: all tests."""


@asynccontextmanager
async def in_this_process(host: Host, settings: Mapping[str, str], folder: Path) -> AsyncIterator[Deployment]:
    async with AsyncExitStack() as stack:
        with cheap_hashes():
            await stack.enter_async_context(host.running())
        listener = stack.enter_context(closing(bind("127.0.0.1", 0)))
        await stack.enter_async_context(http_server(application(host), listener))
        client = await stack.enter_async_context(public_client(listener.getsockname()[1]))
        yield Running({"/": client}, settings, folder, MailFolder(folder / "mailbox").read)


@asynccontextmanager
async def embedded(folder: Path) -> AsyncIterator[Deployment]:
    """Every role in one process, with nothing else installed."""
    settings = SETTINGS | {"DATA_DIR": str(folder)}
    host = Host(choose_roles(list(ROLES)), Sources(environ=settings, dotenv=None))
    async with in_this_process(host, settings, folder) as running:
        yield running


@asynccontextmanager
async def wire(folder: Path) -> AsyncIterator[Deployment]:
    """One process, but asks go through the HTTP codec; idempotent asks and all events are doubled."""
    settings = SETTINGS | {"DATA_DIR": str(folder)}
    host = WireHost(choose_roles(list(ROLES)), Sources(environ=settings, dotenv=None))
    async with in_this_process(host, settings, folder) as running:
        yield running


SHAPES = {
    shape.name: shape
    for shape in (
        Shape("embedded", embedded),
        Shape("wire", wire),
        Shape("monolith", monolith),
        Shape("split", split),
        Shape("monolith-nats", partial(monolith, broker="nats"), only="events"),
        Shape("split-nats", partial(split, broker="nats"), only="events"),
        Shape("pooled", pooled, only="pooled"),
    )
}
