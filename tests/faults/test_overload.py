"""Too many connections, too slow ones, and a log that nobody reads: good requests are answered all the same."""

import asyncio
import contextlib
import os
import resource
import sys
from pathlib import Path

from faults.test_stopping import LIST, LIVE, Running, Stream, ready, started
from own_processes import SETTINGS, environment
from purveyor_drill.servers.process import free_port

GOOD = 40


async def good_requests(running: Running) -> int:
    """How many of 40, one after the other and each on a new connection, are answered within 5 s."""
    answered = 0
    for _ in range(GOOD):
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(5):
                answered += (await running.ask(LIST)).startswith(b"HTTP/1.1 200")
    return answered


async def held(running: Running, count: int, sent: bytes = b"") -> list[Stream]:
    """Connections that stay open on our side, as far as they can be had."""
    streams: list[Stream] = []
    for _ in range(count):
        with contextlib.suppress(OSError):
            streams.append(await running.open(sent))
    return streams


async def test_two_thousand_idle_sockets_do_not_use_up_256_descriptors(tmp_path: Path) -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with started(tmp_path, roles=["catalog"], shell="ulimit -n 256") as running:
        await ready(running)
        idle = await held(running, min(2000, soft - 200))
        answered = await good_requests(running)
        for _, writer in idle:
            writer.close()

    assert answered >= 0.95 * GOOD


async def test_five_hundred_slow_heads_and_bodies_hold_up_nobody(tmp_path: Path) -> None:
    async with started(tmp_path, roles=["catalog"]) as running:
        await ready(running)
        slow = await held(running, 250, LIVE[:20])
        slow += await held(running, 250, b"POST /login HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")
        answered = await good_requests(running)
        for _, writer in slow:
            writer.close()

    assert answered == GOOD


async def test_a_log_that_nobody_reads_holds_up_no_request(tmp_path: Path) -> None:
    """More is logged than the pipe and the 4 MiB of the process hold."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "purveyor", "serve", "--port", str(port), "--roles", "catalog"),
        env=environment(SETTINGS | {"DATA_DIR": str(tmp_path), "LOG_LEVEL": "info"}),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=(pipe := os.pipe())[1],
        cwd=tmp_path,
    )
    os.close(pipe[1])
    running = Running(process, port)
    try:
        await ready(running)
        long_path = b"GET /%b HTTP/1.1\r\nHost: x\r\n\r\n" % (b"%01" * 1000)
        async with asyncio.timeout(60):
            reader, writer = await running.open()
            for _ in range(160):
                writer.write(long_path * 25)
                for _ in range(25):
                    await reader.readuntil(b'"request_id":"')
            writer.close()
        assert await good_requests(running) == GOOD
        metrics = await running.ask(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        code, _ = await running.stopped()
    finally:
        os.close(pipe[0])

    (dropped,) = [line for line in metrics.splitlines() if line.startswith(b"purveyor_log_lines_dropped_total")]
    assert float(dropped.split()[1]) > 0
    assert code == 0
