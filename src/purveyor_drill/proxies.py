"""The proxies of a drill, in a process of their own: a busy drill must not look like a slow network.

Run as ``python -m purveyor_drill.proxies``. It reads commands, one a line, and answers each with a line.
"""

import asyncio
import sys
from contextlib import AsyncExitStack
from typing import Literal, Self

import msgspec
import uvloop

from purveyor_drill.proxy import Blackhole, Fault, Latency, Proxy, Refuse, Reset
from purveyor_drill.servers import reaper

NetworkFault = Literal["refuse", "blackhole", "latency", "reset"]

_FAULTS: dict[NetworkFault, Fault] = {
    "refuse": Refuse(),
    "blackhole": Blackhole(),
    "latency": Latency(delay_s=0.1, jitter_s=0.05),
    "reset": Reset(),
}
_ANSWER_S = 10.0


class Open(msgspec.Struct, frozen=True, tag=True):
    """Open a proxy; the answer is its port."""

    host: str
    port: int


class SetFault(msgspec.Struct, frozen=True, tag=True):
    """Put a fault in force at the proxy with this port; ``None`` lifts it."""

    port: int
    fault: NetworkFault | None


Command = Open | SetFault


class Proxies:
    """The proxies' process, as the drill uses it."""

    async def open(self, host: str, port: int) -> int:
        """Open a proxy in front of a server; its port on 127.0.0.1."""
        return await self._ask(Open(host, port))

    async def set_fault(self, port: int, fault: NetworkFault | None) -> None:
        """Put a fault in force at the proxy with this port, or lift it."""
        await self._ask(SetFault(port, fault))

    async def __aenter__(self) -> Self:
        self._asking = asyncio.Lock()
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", __name__),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for the drill alone
        )
        reaper.watch(self._process.pid)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()  # which ends it
        await self._process.wait()
        reaper.forget(self._process.pid)

    async def _ask(self, command: Command) -> int:
        if self._process.stdin is None or self._process.stdout is None:
            raise ConnectionError("the proxies were not started")
        async with self._asking, asyncio.timeout(_ANSWER_S):
            self._process.stdin.write(msgspec.json.encode(command) + b"\n")
            answer = await self._process.stdout.readline()
        if not answer:
            raise ConnectionError("the process of the proxies has ended")
        return int(answer)


async def _serve() -> None:
    """Obey until standard input ends."""
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    proxies: dict[int, Proxy] = {}
    async with AsyncExitStack() as stack:
        while line := await reader.readline():
            match msgspec.json.decode(line, type=Command):
                case Open(host, port):
                    proxy = await stack.enter_async_context(Proxy(host, port))
                    proxies[proxy.port] = proxy
                case SetFault(port, fault):
                    proxy = proxies[port]
                    proxy.set(*([_FAULTS[fault]] if fault else []))
            sys.stdout.write(f"{proxy.port}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_serve())
