"""Does to a running shape what the schedule says, lifts it again, and notes both."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

import msgspec

from purveyor_drill.observations import Doubt, Injected
from purveyor_drill.processes import Application
from purveyor_drill.proxies import Cut
from purveyor_drill.schedule import Fault
from purveyor_drill.servers import process_tree as tree
from purveyor_drill.servers.process import StartFailed
from purveyor_drill.servers.redis import RedisServer
from purveyor_drill.servers.server import Server
from purveyor_drill.servers.smtp import Rule
from purveyor_drill.testbed import House

SLOTS = 8
"""How many mails one sender has under way, at most."""
_RESTART_TRIES = 3
_DATA_READ_S = 1.0

_RULES: Mapping[str, Sequence[Rule]] = {
    "greeting 421": [Rule(at="connect", reply="421 4.3.2 not now", end="close", times=2)],
    "mail 451": [Rule(at="mail", reply="451 4.3.0 later", times=3)],
    "dot 452": [Rule(at="dot", reply="452 4.3.1 no room", times=3)],
    "close after dot": [Rule(at="dot", end="close", times=1)],
    "reset after dot": [Rule(at="dot", end="reset", times=1)],
    "hang at data": [Rule(at="data", end="hang", times=1)],
    "slow 250": [Rule(at="dot", delay_s=3.0, times=3)],
}
_CUTS = {"close after dot": 1, "reset after dot": 1}
_DOUBTFUL_LINKS = ("link to smtp", "link to database", "link to mongodb")
_LEDGERS = ("postgres", "embedded", "mongodb")


class MailsAtData(Protocol):
    """Asks the ledger, without the application, how many mails are at ``data`` now."""

    async def __call__(self) -> int:
        """Raises ``OSError`` or ``TimeoutError`` when the ledger does not answer."""
        ...


class Injector:
    """Injects faults into one house. ``injected`` and ``doubts`` are what happened, in the order of its end."""

    def __init__(self, house: House, mails_at_data: MailsAtData) -> None:
        self.injected: list[Injected] = []
        self.skipped = 0
        """Faults whose target was not up again yet when their moment came."""
        self.doubts: list[Doubt] = []
        self.hurried = asyncio.Event()
        """When set, every fault that holds is lifted at once."""
        self._house = house
        self._mails_at_data = mails_at_data
        self._locks: dict[str, asyncio.Lock] = {}

    async def inject(self, fault: Fault) -> None:
        """One fault, from its beginning until it is lifted and what was hit is up again."""
        lock = self._lock(fault.target)
        if lock.locked() or self.hurried.is_set():
            self.skipped += 1
            return
        async with lock:
            began_at = time.time()
            self._doubt_of_servers(fault)
            ended_at, error = began_at, ""
            try:
                ended_at = await self._apply(fault)
            except (StartFailed, OSError) as problem:
                ended_at, error = time.time(), str(problem).splitlines()[0]
            self.injected.append(
                Injected(
                    action=fault.action,
                    target=fault.target,
                    detail=fault.detail,
                    began_at=began_at,
                    ended_at=ended_at,
                    ready_at=time.time() if fault.action in ("kill", "term") else ended_at,
                    error=error,
                )
            )

    def _lock(self, target: str) -> asyncio.Lock:
        if application := self._house.applications.get(target):
            return application.busy
        return self._locks.setdefault(target, asyncio.Lock())

    async def _apply(self, fault: Fault) -> float:
        """Inject and lift it; when it was lifted."""
        house = self._house
        if application := house.applications.get(fault.target):
            return await self._process(application, fault)
        if port := house.links.get(fault.target):
            return await self._link(port, fault)
        if fault.target == "embedded":
            return await self._embedded(fault)
        if fault.action == "answers":
            await asyncio.to_thread(house.sink.script, *_RULES[fault.detail])
            return time.time()
        return await self._server(house.servers[fault.target], fault)

    async def _process(self, application: Application, fault: Fault) -> float:
        sends = application in self._house.senders()
        if fault.action == "freeze":
            application.freeze()
            await self._hold(fault.lasts_s)
            application.thaw()
            if sends:
                self._doubt(fault, SLOTS)
            return time.time()
        if fault.action == "kill":
            await application.kill()
            if sends:
                self._doubt(fault, await self._at_data(), sender_died=True)
        elif not await application.terminate() and sends:
            self._doubt(fault, await self._at_data(), sender_died=True)
        await self._hold(fault.lasts_s)
        started_at = time.time()
        await application.start()
        return started_at

    async def _server(self, server: Server, fault: Fault) -> float:
        match fault.action:
            case "flush" if isinstance(server, RedisServer):
                await asyncio.to_thread(server.flush)
            case "freeze":
                await asyncio.to_thread(server.freeze)
                await self._hold(fault.lasts_s)
                await asyncio.to_thread(server.thaw)
            case "restart":
                await asyncio.to_thread(server.halt)
                await self._hold(fault.lasts_s)
                await _again(server)
            case _:
                await asyncio.to_thread(server.kill)
                await self._hold(fault.lasts_s)
                await _again(server)
        return time.time()

    async def _embedded(self, fault: Fault) -> float:
        """The application's own server: whoever of its processes owns it starts it again."""
        pid = await asyncio.to_thread(_postmaster, list(self._house.applications.values()))
        if fault.action == "kill":
            await asyncio.to_thread(tree.kill, pid)
        else:
            await asyncio.to_thread(tree.freeze, pid)
            await self._hold(fault.lasts_s)
            await asyncio.to_thread(tree.thaw, pid)
        return time.time()

    async def _link(self, port: int, fault: Fault) -> float:
        cut = msgspec.convert(fault.action, Cut)
        await self._house.proxies.spoil(port, cut)
        await self._hold(fault.lasts_s)
        await self._house.proxies.spoil(port, None)
        return time.time()

    async def _hold(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.hurried.wait()
        except TimeoutError:
            return

    async def _at_data(self) -> int:
        """Right after a sender's death its mails are still there; the bound of the worst case where none tells."""
        try:
            async with asyncio.timeout(_DATA_READ_S):
                return await self._mails_at_data()
        except (OSError, TimeoutError):
            return SLOTS * len(self._house.senders())

    def _doubt_of_servers(self, fault: Fault) -> None:
        """Without its ledger or its SMTP server, every sender may doubt all that it has under way."""
        if fault.action == "answers":
            if cuts := _CUTS.get(fault.detail):
                self._doubt(fault, cuts)
        elif self._house.embedded and fault.target in self._house.applications and fault.action != "freeze":
            self._doubt(fault, SLOTS * len(self._house.senders()))  # it may have been the database's owner
        elif fault.target in (*_LEDGERS, *_DOUBTFUL_LINKS) or (fault.target, fault.action) == ("smtp", "kill"):
            self._doubt(fault, SLOTS * len(self._house.senders()))

    def _doubt(self, fault: Fault, mails: int, *, sender_died: bool = False) -> None:
        self.doubts.append(
            Doubt(at=time.time(), cause=fault.name, sender_died=sender_died, mails=mails),
        )


async def play(faults: Sequence[Fault], inject: Callable[[Fault], Awaitable[None]], stop: asyncio.Event) -> None:
    """Inject every fault at its moment, until the last is lifted; none is begun any more after ``stop``."""
    began = asyncio.get_running_loop().time()
    async with asyncio.TaskGroup() as group:
        for fault in faults:
            try:
                async with asyncio.timeout_at(began + fault.at_s):
                    await stop.wait()
            except TimeoutError:
                group.create_task(inject(fault))  # type: ignore[arg-type]  # an async function's coroutine
            else:
                return


async def _again(server: Server) -> None:
    """Start a killed server; a few tries, because what its last life left may keep it from the first."""
    for attempt in range(_RESTART_TRIES):
        try:
            await asyncio.to_thread(server.restart)
        except StartFailed:
            if attempt == _RESTART_TRIES - 1:
                raise
        else:
            return


def _postmaster(applications: Sequence[Application]) -> int:
    """The process of the embedded PostgreSQL. Raises ``StartFailed`` while there is none."""
    for application in applications:
        for pid in tree.members(application.pid) if application.pid else ():
            if tree.name(pid) == "postgres":
                return pid
    raise StartFailed("the embedded server is not running now")
