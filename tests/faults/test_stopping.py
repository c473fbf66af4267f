"""SIGTERM: what is in hand is finished, nobody who only holds a connection is waited for, and the end comes."""

import asyncio
import contextlib
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from own_processes import SETTINGS, environment
from purveyor.registry import ROLES
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.process import free_port

LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"
METRICS = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LIST = b"GET /catalog/products HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
REGISTER = b"POST /register HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
ACCOUNT = b'{"email": "ada@example.com", "password": "a long enough password", "name": "Ada"}'
SOON_S = 10.0
"""Much less than the 25 s that a stop may take with mails in hand, and more than a busy machine needs."""
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Running:
    """A process of ours, and how it is reached."""

    process: asyncio.subprocess.Process
    port: int

    async def open(self, sent: bytes = b"") -> Stream:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(sent)
        return reader, writer

    async def ask(self, request: bytes) -> bytes:
        """The whole answer on a connection of its own."""
        reader, writer = await self.open(request)
        try:
            return await reader.read()
        finally:
            writer.close()

    async def stopped(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, float]:
        """Send a signal; the exit code, and how long it took in seconds."""
        began = time.monotonic()
        self.process.send_signal(number)
        async with asyncio.timeout(40):
            return await self.process.wait(), time.monotonic() - began


@asynccontextmanager
async def started(
    folder: Path, *options: str, shell: str = "", roles: Sequence[str] = tuple(ROLES), **settings: str
) -> AsyncIterator[Running]:
    """A process that may not be ready yet. ``shell``: what is to be run before it in the same shell."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "purveyor",
        "serve",
        "--port",
        str(port),
        "--roles",
        ",".join(roles),
        *options,
    ]
    if shell:
        command = ["sh", "-c", f'{shell}; exec "$@"', "sh", *command]
    with (folder / "log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            env=environment(SETTINGS | {"DATA_DIR": str(folder)} | settings),
            stderr=log,
            stdout=log,
            cwd=folder,
        )
    try:
        yield Running(process, port)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            async with asyncio.timeout(40):
                await process.wait()


async def ready(running: Running, path: bytes = b"/health/ready") -> Running:
    async def answers() -> bool:
        with contextlib.suppress(OSError):
            request = b"GET %b HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" % path
            return (await running.ask(request)).startswith(b"HTTP/1.1 200")
        return False

    await until(answers)
    return running


async def until(condition: Callable[[], object], within_s: float = 60.0) -> None:
    async with asyncio.timeout(within_s):
        while not await condition():  # type: ignore[misc]
            await asyncio.sleep(0.05)


@pytest.fixture(scope="module")
async def postgres() -> AsyncIterator[PostgresServer]:
    if reason := PostgresServer.available():
        pytest.skip(f"no PostgreSQL: {reason}")
    with PostgresServer() as server:
        yield server


async def test_it_ends_soon_though_hundreds_of_clients_hold_their_connections(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    async with started(tmp_path, DATABASE_URL=postgres.create_database("idle")) as running:
        await ready(running)
        clients = [await running.open(LIVE) for _ in range(300)]
        for reader, _ in clients:
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        halves = (b"GET /health/live HTTP/1.1\r\nHo", REGISTER % (200, ACCOUNT), b"")
        clients += [await running.open(half) for half in halves for _ in range(50)]
        code, seconds = await running.stopped()
        for _, writer in clients:
            writer.close()

    assert code == 0
    assert seconds < SOON_S


async def test_the_request_in_hand_is_answered_though_the_database_is_frozen(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    async with started(tmp_path, DATABASE_URL=postgres.create_database("frozen")) as running:
        await ready(running)
        postgres.freeze()
        try:
            asked = asyncio.create_task(running.ask(REGISTER % (len(ACCOUNT), ACCOUNT)))
            await asyncio.sleep(0.5)
            code, seconds = await running.stopped()
        finally:
            postgres.thaw()
        answer = await asked

    assert answer.startswith(b"HTTP/1.1 503"), answer
    assert b"retry-after: " in answer.lower()
    assert code == 0
    assert seconds < SOON_S


async def test_a_second_signal_ends_it_at_once(tmp_path: Path, postgres: PostgresServer) -> None:
    async with started(tmp_path, DATABASE_URL=postgres.create_database("second")) as running:
        await ready(running)
        postgres.freeze()
        try:
            asked = asyncio.create_task(running.ask(REGISTER % (len(ACCOUNT), ACCOUNT)))
            await asyncio.sleep(0.3)
            running.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.2)
            code, _ = await running.stopped()
        finally:
            postgres.thaw()
        with contextlib.suppress(ConnectionResetError):
            await asked

    assert code == -signal.SIGTERM


@pytest.mark.parametrize("setting", ["RABBITMQ_URL", "MONGODB_URI", "DATABASE_URL"])
async def test_it_ends_while_it_waits_for_a_server_at_its_start(
    tmp_path: Path, postgres: PostgresServer, setting: str
) -> None:
    away = {"RABBITMQ_URL": "amqp", "MONGODB_URI": "mongodb", "DATABASE_URL": "postgresql"}[setting]
    settings = {"DATABASE_URL": postgres.url} | {setting: f"{away}://127.0.0.1:{free_port()}/x"}
    async with started(tmp_path, STARTUP_WAIT_S="300", **settings) as running:
        await until(lambda: _awaits_sigterm(running.process.pid))
        await asyncio.sleep(1)
        assert running.process.returncode is None, (tmp_path / "log").read_text()
        code, seconds = await running.stopped()

    assert code == 0
    assert seconds < SOON_S


async def test_one_of_two_workers_is_replaced_and_no_request_notices(tmp_path: Path) -> None:
    async with started(tmp_path, "--workers", "2", roles=["catalog"], LOG_LEVEL="info") as running:
        await ready(running)
        failed: list[bytes] = []
        asked = 0
        over = asyncio.Event()

        async def customer() -> None:
            nonlocal asked
            while not over.is_set():
                asked += 1
                try:
                    answer = await running.ask(LIST)
                except OSError as error:
                    answer = repr(error).encode()
                if not answer.startswith(b"HTTP/1.1 200"):
                    failed.append(answer)
                await asyncio.sleep(0.01)

        customers = [asyncio.create_task(customer()) for _ in range(4)]
        for replaced in range(3):  # one after the other: there is always one that serves
            await until(lambda count=2 + replaced: _are_ready(tmp_path / "log", count))
            workers = await two_workers(running.process.pid)
            if replaced < 2:
                os.kill(workers[0], signal.SIGTERM)
                await until(lambda gone=workers[0]: _is_gone(gone))
        over.set()
        await asyncio.gather(*customers)
        code, _ = await running.stopped()

    assert asked > 100
    assert failed == []
    assert code == 0
    assert not (tmp_path / "postgres").exists(), "nobody needs a database here"


async def test_every_worker_shows_the_requests_of_all(tmp_path: Path) -> None:
    def asked(answer: bytes) -> dict[str, float]:
        route = rb'^purveyor_http_requests_total\{.*route="/catalog/products".*worker="(\d)"\} (\S+)'
        return {worker.decode(): float(count) for worker, count in re.findall(route, answer, re.MULTILINE)}

    async with started(tmp_path, "--workers", "2", roles=["catalog"], LOG_LEVEL="info") as running:
        await until(lambda: _are_ready(tmp_path / "log", 2))

        sent = 0

        async def both_were_asked() -> bool:
            nonlocal sent
            sent += 1
            await running.ask(LIST)
            return len(asked(await running.ask(METRICS))) == 2

        async def all_are_counted() -> bool:
            """A worker shows for a second what it has collected."""
            shown = [asked(await running.ask(METRICS)) for _ in range(10)]
            return all(sum(each.values()) == sent for each in shown)

        await until(both_were_asked)
        await until(all_are_counted)
        code, _ = await running.stopped()

    assert code == 0


@pytest.mark.parametrize("when", ["while they start", "while they run"])
async def test_workers_end_when_the_process_that_started_them_was_killed(tmp_path: Path, when: str) -> None:
    async with started(tmp_path, "--workers", "2", roles=["catalog"]) as running:
        if when == "while they run":
            await ready(running)
        workers = await two_workers(running.process.pid)
        await running.stopped(signal.SIGKILL)
        for worker in workers:
            await until(lambda gone=worker: _is_gone(gone))


async def _awaits_sigterm(pid: int) -> bool:
    """Whether it has come so far that a SIGTERM does not just kill it."""
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


async def _are_ready(log: Path, count: int) -> bool:
    """Whether so many workers have said so since the start."""
    return log.read_text().count('"event":"ready"') == count


async def _is_gone(pid: int) -> bool:
    return not Path(f"/proc/{pid}").exists()


async def two_workers(parent: int) -> list[int]:
    """The workers' process numbers, once both are there."""
    found: list[int] = []

    async def there() -> bool:
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
        commands = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
        found[:] = [pid for pid, command in commands.items() if "spawn_main" in command]
        return len(found) == 2

    await until(there)
    return found
