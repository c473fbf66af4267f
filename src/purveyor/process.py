"""A process as the operating system sees it: sockets, signals, workers, exit codes."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from purveyor import __version__
from purveyor.api_info import ABOUT
from purveyor.host import Host, choose_roles, known_settings
from purveyor.kit import log as logs
from purveyor.kit import otel
from purveyor.kit.db.embedded.owner import EmbeddedPostgres
from purveyor.kit.errors import ConfigError, StartupError
from purveyor.kit.events.asyncapi import asyncapi
from purveyor.kit.http.app import web_app
from purveyor.kit.http.cors import Cors
from purveyor.kit.http.health import health_routes
from purveyor.kit.http.loopback import is_loopback
from purveyor.kit.http.middleware import LoadShedding, RequestContext
from purveyor.kit.http.pages import event_routes, page_routes
from purveyor.kit.http.server import http_server
from purveyor.kit.process.exit_codes import exit_with_one_line
from purveyor.kit.process.siblings import Siblings, make_siblings
from purveyor.kit.process.supervisor import Workers, starter_gone
from purveyor.registry import ROLES
from purveyor.settings import Settings, Sources, base_path_of
from purveyor.transports.answering import answering_routes

log = logging.getLogger(__name__)

GRACE_S = 20
_STARTING_GRACE_S = 3
_OBJECTS_PER_COLLECTION = 10_000
_LAST_PORT = 65_535


@dataclass(frozen=True)
class Plan:
    """The roles to run, and how. Without ``public``, only health and metrics are served, if ``port`` is set."""

    roles: tuple[str, ...]
    make_sources: Callable[[], Sources]
    host: str = "127.0.0.1"
    port: int | None = 8000
    workers: int = 1
    public: bool = True


def bind(host: str, port: int, option: str = "--port") -> socket.socket:
    """Open a listening socket. The ``StartupError`` of a port in use names ``option`` to choose another one."""
    family = _family(host, port)
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        other = port + 1 if port < _LAST_PORT else port - 1
        hint = f"Choose another one with {option}, for example {option} {other}"
        raise StartupError(f"Port {port} on {host} cannot be used: {error.strerror}. {hint}.") from error
    listener.listen(1024)
    listener.setblocking(False)  # noqa: FBT003 - the signature of the socket module
    return listener


def _family(host: str, port: int) -> socket.AddressFamily:
    """IPv4 or IPv6. Raises ``ConfigError`` if the host cannot be resolved."""
    if not host:  # the system would listen on every address
        raise ConfigError("--host '': must be an address of this machine, such as 127.0.0.1.")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
    except (OSError, ValueError) as error:  # ValueError: not a host name
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--host {host!r}: must be an address of this machine ({reason}).") from error
    return family


def configure_logging(plan: Plan) -> None:
    """Set up logging as the settings say."""
    settings = plan.make_sources().load(Settings)
    logs.configure(settings.log_format, settings.log_level)


def run(plan: Plan) -> int:
    """Run until SIGTERM or SIGINT and return the exit code. Raises ``ConfigError`` and ``StartupError``."""
    sources = plan.make_sources()
    Host(choose_roles(plan.roles), sources)  # refuses invalid settings before anything is started
    configure_logging(plan)
    for unknown in sources.unknown(known_settings()):
        log.warning("%s", unknown)
    option = "--port" if plan.public else "--health-port"
    listener = bind(plan.host, plan.port, option) if plan.port is not None else None
    with contextlib.closing(listener) if listener else contextlib.nullcontext():
        if plan.workers > 1:
            return _loop(lambda: _supervise(plan, listener))
        return _serve_traced(plan, listener)


def _serve_traced(plan: Plan, listener: socket.socket | None, siblings: Siblings | None = None) -> int:
    """Serve in this process, and export its traces if the settings ask for it."""
    roles = [role.name for role in choose_roles(plan.roles)]
    service = "purveyor" if len(roles) == len(ROLES) else "-".join(["purveyor", *roles])
    with otel.exporting(plan.make_sources().starting_with(otel.PREFIX), service=service, roles=roles):
        return _loop(lambda: _serve(plan, listener, siblings))


def _loop(main: Callable[[], Any]) -> int:
    if sys.platform == "win32":
        return int(asyncio.run(main()))
    import uvloop

    return int(uvloop.run(main()))


@contextlib.asynccontextmanager
async def stop_signal(at_once: Callable[[], None] = lambda: None) -> AsyncIterator[asyncio.Event]:
    """An event that SIGTERM and SIGINT set. A second signal calls ``at_once`` and kills the process."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def on_signal(number: int) -> None:
        if stop.is_set():
            at_once()
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    numbers = (signal.SIGTERM, signal.SIGINT)
    for number in numbers:
        loop.add_signal_handler(number, on_signal, number)
    try:
        yield stop
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)


async def _serve(plan: Plan, listener: socket.socket | None, siblings: Siblings | None = None) -> int:
    async with stop_signal() as stop:
        watching = asyncio.ensure_future(_stop_when_orphaned(stop))
        host = Host(
            choose_roles(plan.roles), plan.make_sources(), processes=plan.workers, own_url=_development_url(plan)
        )
        running = asyncio.ensure_future(_run_host(host, plan, listener, siblings, stop))
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({running, stopped}, return_when=asyncio.FIRST_COMPLETED)
        grace_s = GRACE_S if host.started else _STARTING_GRACE_S  # a start may be waiting for an absent server
        _, late = await asyncio.wait({running}, timeout=grace_s)
        if late:
            log.warning("work in progress did not end within %d s", grace_s)
            running.cancel()
            await asyncio.wait({running}, timeout=2)
        stopped.cancel()
        watching.cancel()
        if running.done() and not running.cancelled():
            running.result()
        return 0


async def _run_host(
    host: Host, plan: Plan, listener: socket.socket | None, siblings: Siblings | None, stop: asyncio.Event
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(host.running())
        stopped = asyncio.ensure_future(stop.wait())
        ends: set[asyncio.Future[Any]] = {stopped, host.failed}
        if siblings is not None:
            await stack.enter_async_context(siblings.answering())
        if listener is not None:
            app = application(host, public=plan.public, siblings=siblings)
            ends.add(await stack.enter_async_context(http_server(app, listener)))
        _spare_the_collector()
        _announce(host, plan)
        done, _ = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        host.stopping = True
        stopped.cancel()
    if host.failed in done:
        host.failed.result()


def _spare_the_collector() -> None:
    """Have the garbage collector pass over what was built at start, and look for cycles less often.

    Requests leave few cycles behind. With Python's own threshold the collector takes 6 % of an order's time.
    """
    gc.freeze()
    gc.set_threshold(_OBJECTS_PER_COLLECTION, 10, 10)


def _url_of(plan: Plan, host: str = "") -> str:
    """The URL of this process's port, if it has one."""
    host = host or plan.host
    return "" if plan.port is None else f"http://{f'[{host}]' if ':' in host else host}:{plan.port}"


def _development_url(plan: Plan) -> str:
    """The base URL of links without ``PUBLIC_URL``: in development the process's own."""
    if not plan.public or plan.make_sources().load(Settings).production:
        return ""
    return _url_of(plan, "localhost" if plan.host in ("0.0.0.0", "::") else "")  # noqa: S104 - compared


def _announce(host: Host, plan: Plan) -> None:
    roles = ",".join(host.actors)
    url = _url_of(plan)
    log.info("ready", extra={"roles": roles, **({"url": url} if url else {})})
    if url and plan.public and not host.settings.production and not is_loopback(plan.host):
        log.warning(
            "%s listens beyond this machine in development mode. Set ENVIRONMENT=production before others use it. "
            "Development pages, such as the mailbox, answer only this machine.",
            url,
        )
    if not sys.stderr.isatty() or not url or not plan.public:
        return
    pages = {**_pages(host), "API docs": "/docs", "Health": "/health/ready"}
    lines = "".join(f"  {name + ':':<10} {url}{path}\n" for name, path in pages.items())
    sys.stderr.write(f"\n  Purveyor {__version__} is ready, roles {roles}. Ctrl-C stops it.\n{lines}\n")


def _pages(host: Host) -> dict[str, str]:
    """The pages that the roles of this process serve: title to path."""
    served = {path for actor in host.actors.values() for route in actor.routes for path in route.paths}
    return {title: path for role in host.roles for title, path in role.pages.items() if path in served}


def application(host: Host, *, public: bool = True, siblings: Siblings | None = None) -> LoadShedding:
    """The ASGI application of a running host."""
    routes = health_routes(
        host.health,
        lambda: host.stopping,
        production=host.settings.production,
        measures=host.measures(),
        siblings=siblings,
    )
    if public:
        mailbox = "/mailbox" in _pages(host).values()
        routes += page_routes(development=mailbox)
        routes += event_routes(asyncapi(list(ROLES.values()), version=__version__), development=mailbox)
        for actor in host.actors.values():
            routes += actor.routes
        if host.can_be_asked:
            routes += _answering_routes(host)
    settings = host.settings
    base = base_path_of(settings.public_url)
    cors = Cors(settings.cors_origins) if settings.cors_origins else None
    app = web_app(routes, version=__version__, about=ABOUT, documented=public, base_path=base)
    https = settings.public_url.startswith("https://")
    inner = RequestContext(app, trusted=settings.trusted_proxies, base_path=base, cors=cors, https=https)
    return LoadShedding(inner, base_path=base, cors=cors)


def _answering_routes(host: Host) -> list[Any]:
    answers = {name: actor.answers for name, actor in host.actors.items()}
    return answering_routes(answers, host.callers(), host.service_tokens)


async def _supervise(plan: Plan, listener: socket.socket | None) -> int:
    """Run worker processes on one socket. The parent owns the embedded database if they need it."""
    places = make_siblings(plan.workers)
    mains = [partial(_worker, plan, listener, place) for place in places]
    workers = Workers(mains, grace_s=GRACE_S + 3)  # each ends before that
    async with contextlib.AsyncExitStack() as stack, stop_signal(workers.kill) as stop:
        for place in places:
            stack.callback(place.listener.close)
        host = Host(choose_roles(plan.roles), plan.make_sources(), processes=plan.workers)
        if any(not host.databases.configured(schema.role) for schema in host.schemas()):
            await stack.enter_async_context(EmbeddedPostgres(host.settings.data_dir))
        return await workers.run(stop)


def _worker(plan: Plan, listener: socket.socket | None, place: Siblings) -> None:
    """The main function of one of several worker processes."""
    with exit_with_one_line():
        configure_logging(plan)
        sys.exit(_serve_traced(plan, listener, place))


async def _stop_when_orphaned(stop: asyncio.Event) -> None:
    """Shut down when the supervising parent has exited."""
    await starter_gone()
    log.warning("the parent of this worker has exited")
    stop.set()
