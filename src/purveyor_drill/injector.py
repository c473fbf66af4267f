"""Injects the scheduled faults into a running shape, lifts them again, and records both."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec

from purveyor_drill.observations import Doubt, Injected
from purveyor_drill.processes import Application
from purveyor_drill.proxies import NetworkFault
from purveyor_drill.schedule import Fault
from purveyor_drill.servers import process_tree
from purveyor_drill.servers.process import StartFailed
from purveyor_drill.servers.redis import RedisServer
from purveyor_drill.servers.server import Server
from purveyor_drill.servers.smtp import Rule
from purveyor_drill.testbed import Testbed

SLOTS = 8
"""Maximum number of emails that one sender works on at the same time."""
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


class Injector:
    """Injects faults into one testbed; ``injected`` and ``doubts`` are in the order in which they ended.

    ``mails_at_data`` reads from the ledger how many mails are between their final dot and the record of the
    answer. Raises ``OSError`` if the ledger does not answer.
    """

    def __init__(self, testbed: Testbed, mails_at_data: Callable[[], Awaitable[int]]) -> None:
        self.injected: list[Injected] = []
        self.skipped = 0
        """Faults whose target was still down when their time came."""
        self.doubts: list[Doubt] = []
        self.lift_now = asyncio.Event()
        """Once set, every active fault is lifted immediately."""
        self._testbed = testbed
        self._mails_at_data = mails_at_data
        self._locks: dict[str, asyncio.Lock] = {}

    async def inject(self, fault: Fault) -> None:
        """One fault, from its beginning until it is lifted and its target is up again."""
        lock = self._lock(fault.target)
        if lock.locked() or self.lift_now.is_set():
            self.skipped += 1
            return
        async with lock:
            began_at = time.time()
            self._doubt_of_servers(fault)
            ended_at, error = began_at, ""
            try:
                ended_at = await self._apply(fault)
            except (StartFailed, OSError) as problem:
                ended_at, error = time.time(), (str(problem) or type(problem).__name__).splitlines()[0]
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
        if application := self._testbed.applications.get(target):
            return application.busy
        return self._locks.setdefault(target, asyncio.Lock())

    async def _apply(self, fault: Fault) -> float:
        """Inject and lift a fault; the time at which it was lifted."""
        testbed = self._testbed
        if application := testbed.applications.get(fault.target):
            return await self._process(application, fault)
        if port := testbed.links.get(fault.target):
            return await self._link(port, fault)
        if fault.target == "embedded":
            return await self._embedded(fault)
        if fault.action == "answers":
            await asyncio.to_thread(testbed.sink.script, *_RULES[fault.detail])
            return time.time()
        return await self._server(testbed.servers[fault.target], fault)

    async def _process(self, application: Application, fault: Fault) -> float:
        sends = application in self._testbed.senders()
        if fault.action == "freeze":
            application.freeze()
            await self._hold(fault.lasts_s)
            application.thaw()
            if sends:
                self._doubt(fault, SLOTS)
            return time.time()
        died = fault.action == "kill" or not await application.terminate()
        if died:
            await application.kill()
        if died and sends:
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
            case _:
                await asyncio.to_thread(server.halt if fault.action == "restart" else server.kill)
                await self._hold(fault.lasts_s)
                await _restart(server)
        return time.time()

    async def _embedded(self, fault: Fault) -> float:
        """The application's own server: the process that owns it starts it again."""
        pid = await asyncio.to_thread(_postmaster, list(self._testbed.applications.values()))
        if fault.action == "kill":
            await asyncio.to_thread(process_tree.kill, pid)
        else:
            await asyncio.to_thread(process_tree.freeze, pid)
            await self._hold(fault.lasts_s)
            await asyncio.to_thread(process_tree.thaw, pid)
        return time.time()

    async def _link(self, port: int, fault: Fault) -> float:
        name: NetworkFault = msgspec.convert(fault.action, NetworkFault)
        await self._testbed.proxies.set_fault(port, name)
        await self._hold(fault.lasts_s)
        await self._testbed.proxies.set_fault(port, None)
        return time.time()

    async def _hold(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self.lift_now.wait()
        except TimeoutError:
            return

    async def _at_data(self) -> int:
        """The mails of a sender that has just died; the worst case if the ledger does not answer."""
        try:
            async with asyncio.timeout(_DATA_READ_S):
                return await self._mails_at_data()
        except (OSError, TimeoutError):
            return SLOTS * len(self._testbed.senders())

    def _doubt_of_servers(self, fault: Fault) -> None:
        """Without its ledger or its SMTP server, a sender may doubt every mail that it works on."""
        if fault.action == "answers":
            if cuts := _CUTS.get(fault.detail):
                self._doubt(fault, cuts)
        elif self._testbed.embedded and fault.target in self._testbed.applications and fault.action != "freeze":
            self._doubt(fault, SLOTS * len(self._testbed.senders()))  # it may have owned the database
        elif fault.target in (*_LEDGERS, *_DOUBTFUL_LINKS) or (fault.target, fault.action) == ("smtp", "kill"):
            self._doubt(fault, SLOTS * len(self._testbed.senders()))

    def _doubt(self, fault: Fault, mails: int, *, sender_died: bool = False) -> None:
        self.doubts.append(
            Doubt(at=time.time(), cause=fault.name, sender_died=sender_died, mails=mails),
        )


async def inject_on_schedule(
    faults: Sequence[Fault], inject: Callable[[Fault], Awaitable[None]], stop: asyncio.Event
) -> None:
    """Inject every fault at its time, until the last one is lifted; none begins after ``stop``."""
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


async def _restart(server: Server) -> None:
    """Start a killed server, with a few tries: what its last life left behind may stop the first."""
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
        for pid in process_tree.members(application.pid) if application.pid else ():
            if process_tree.name(pid) == "postgres":
                return pid
    raise StartFailed("the embedded server is not running")
