"""The arithmetic of the benchmark, its verdict, table and plot on made-up figures, and its small servers."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path
from xml.etree import ElementTree

import aiosmtplib
import asyncpg
import msgspec
import pytest

from purveyor_drill.bench import machine
from purveyor_drill.bench.load import Load, Result
from purveyor_drill.bench.load import run as send
from purveyor_drill.bench.plot import render_plot
from purveyor_drill.bench.results import CLOSED, HALF, Run, Slot, cpu_by_part, faults, median_of, rate, ratios
from purveyor_drill.bench.stand_ins import MailSink, ProductApi
from purveyor_drill.bench.table import render_table
from purveyor_drill.http_client import HttpClient
from purveyor_drill.measures import Spread
from purveyor_drill.servers.postgres import PostgresServer

_ROOT = Path(__file__).parents[2]
_SVG = "{http://www.w3.org/2000/svg}"


def slot(succeeded: int, *, failed: int = 0, **changes: object) -> Slot:
    """A load of two seconds."""
    result = Result(
        succeeded=succeeded, failed=failed, seconds=2.0, latency=Spread.of([0.001, 0.002, 0.003]), cpu_s=0.1
    )
    given = Slot(result=result, cpu_ms={"application": 1.0, "postgres": 0.5}, foreign=0.04)
    return msgspec.structs.replace(given, **changes)


def sample(**changes: object) -> Run:
    """A valid run of three rounds."""
    ours = [slot(count, outbox_s=0.5, emails_s=2.0) for count in (200, 400, 600)]
    orders = {"peer": [slot(100), slot(50), slot(200)], "monolith": ours}
    given = Run(
        at="2026-01-02T03:04:05+00:00",
        version="1.2.3",
        cores=2,
        disk="ext4",
        durable=True,
        connections=32,
        slots={CLOSED: orders, HALF: orders, "list <20>": orders},
        relayed={"monolith": [2000.0]},
        backlog_emails=[300.0, 500.0, 400.0],
        backlog_left=0,
        start_s={"monolith": [1.0, 1.5, 1.25]},
        memory_mb={"monolith": {"application": 80.4, "postgres": 60.0}},
        ceiling=[1000.0],
    )
    return msgspec.structs.replace(given, **changes)


def with_orders(slots: Sequence[Slot], target: str = "monolith") -> dict[str, Mapping[str, Sequence[Slot]]]:
    return {CLOSED: {target: slots}}


def row_of(table: str, start: str) -> list[str]:
    return next(line for line in table.splitlines() if line.strip().startswith(start)).split()


def test_figures_are_medians_and_ratios_are_of_the_same_round() -> None:
    peer, ours = sample().slots[CLOSED].values()

    assert median_of(ours, rate) == 200
    assert ratios(ours, peer) == [2.0, 8.0, 3.0]
    assert ratios(ours, [slot(0), slot(50), slot(200)]) == [8.0, 3.0]


def test_cpu_is_the_median_per_part_with_the_largest_first() -> None:
    slots = [slot(1, cpu_ms={"a": 1.0, "b": value}) for value in (2.0, 9.0, 3.0)] + [slot(1, cpu_ms={"b": 3.0})]

    assert list(cpu_by_part(slots).items()) == [("b", 3.0), ("a", 1.0)]


def test_emails_count_over_the_load_and_what_came_after_it() -> None:
    assert slot(200, emails_s=2.0).emails_per_second == 50
    assert slot(200, emails_s=2.0, emails_left=40).emails_per_second == 40


def test_table_shows_rates_latencies_ratios_and_cpu() -> None:
    table = render_table(sample())

    assert row_of(table, "peer  ") == ["peer", "50", "2.0", "3.0", "1.0", "(1.0-1.0)", "1.50", "-", "-"]
    assert row_of(table, "monolith  ") == [
        "monolith", "200", "2.0", "3.0", "3.0", "(2.0-8.0)", "1.50", "0.5", "2.0",
    ]  # fmt: skip
    assert "1.50 = application 1.00, postgres 0.50" in table
    assert row_of(table, "one worker, from a backlog")[-1] == "400"
    assert "20.0% of it" in table
    assert "4%" in table
    assert table.endswith("The run is valid.")


def test_table_has_no_ratio_where_the_rate_was_given() -> None:
    half = render_table(sample()).partition(HALF)[2]

    assert row_of(half, "monolith  ")[1:5] == ["200", "2.0", "3.0", "-"]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"ceiling": []}, "not measured: pgbench was not found"),
        ({"slots": with_orders([slot(9, foreign=0.3)])}, "The machine was not quiet: compare ratios, not rates."),
    ],
)
def test_table_tells_what_limits_the_figures(changes: dict[str, object], told: str) -> None:
    assert told in render_table(sample(**changes))


def test_run_without_failures_and_leftovers_is_valid() -> None:
    assert faults(sample()) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"slots": with_orders([slot(9), slot(9, events_left=3)])}, "3 events were still in the outbox"),
        ({"slots": with_orders([slot(9, emails_left=2)])}, "2 emails were still not accepted"),
        ({"slots": with_orders([slot(9, failed=1)])}, "1 requests failed"),
        ({"slots": with_orders([slot(9, failed=1)], "peer")}, "1 requests failed"),
        ({"slots": with_orders([slot(9), slot(0)])}, "a round had no answer"),
        ({"backlog_left": 7}, "7 emails of a backlog were still not accepted"),
        ({"durable": False, "disk": "tmpfs"}, "the databases are in memory (tmpfs)"),
    ],
)
def test_run_with_failures_or_leftovers_is_invalid_and_the_table_says_so(
    changes: dict[str, object], told: str
) -> None:
    run = sample(**changes)

    assert len(faults(run)) == 1
    assert told in faults(run)[0]
    assert told in render_table(run).partition("The run is INVALID:")[2]


def test_fault_stands_below_the_row_that_it_spoils() -> None:
    lines = render_table(sample(slots=with_orders([slot(9, emails_s=2.0, emails_left=2)]))).splitlines()

    place = next(place for place, line in enumerate(lines) if line.strip().startswith("monolith  "))
    assert lines[place].endswith(" >2.0")
    assert lines[place + 1].strip() == "INVALID: 2 emails were still not accepted"


def test_history_is_one_line_that_can_be_read_back() -> None:
    line = msgspec.json.encode(sample())

    assert b"\n" not in line
    assert msgspec.json.decode(line, type=Run) == sample()


def test_plot_has_a_bar_for_each_ratio_to_the_peer() -> None:
    drawing = ElementTree.fromstring(render_plot(sample()))
    texts = [text.text for text in drawing.iter(f"{_SVG}text")]

    assert texts.count("monolith") == 2
    assert texts.count("3.0") == 2
    assert "list <20>" in texts
    assert HALF not in texts


async def test_sink_counts_every_accepted_email() -> None:
    sink = MailSink()
    await sink.open()
    message = EmailMessage()
    message["From"], message["To"] = "shop@example.com", "ann@example.com"
    message.set_content("Dear Ann,\n.a line with a dot\n")

    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=sink.port, start_tls=False) as client:
        for _ in range(3):
            await client.send_message(message)

    assert sink.accepted == 3
    sink.close()


async def test_product_api_answers_known_products_only() -> None:
    api = ProductApi()
    await api.open()
    client = HttpClient()

    known = await client.request(api.port, "GET", "/api/products/7")
    unknown = await client.request(api.port, "GET", "/api/products/151")

    assert known.json()["product"]["id"] == 7
    assert unknown.status == 404
    api.close()


class Answering(asyncio.Protocol):
    """Answers each request, every third with 500, in two pieces."""

    seen: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.seen.append(data)
        status = 500 if len(self.seen) % 3 == 0 else 201
        self.transport.write(f"HTTP/1.1 {status} -\r\nContent-Length: 4\r\n\r\nab".encode())
        asyncio.get_running_loop().call_soon(self.transport.write, b"cd")


@pytest.mark.parametrize("per_second", [0.0, 300.0])
async def test_load_counts_every_answer_and_gives_each_order_a_key(per_second: float) -> None:
    Answering.seen = seen = []
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    load = Load(
        port=server.sockets[0].getsockname()[1],
        method="POST",
        paths=["/one", "/two"],
        tokens=["secret"],
        bodies=["{}"],
        with_keys=True,
        connections=2,
        seconds=0.1,
        rate=per_second,
    )

    result = await send(load)

    assert result.succeeded + result.failed == len(seen) > 0
    assert result.failed == len(seen) // 3
    keys = {line for request in seen for line in request.split(b"\r\n") if line.startswith(b"Idempotency-Key")}
    assert len(keys) == len(seen)
    assert all(b"Authorization: Bearer secret\r\n" in request for request in seen)
    server.close()


@pytest.mark.parametrize(("requests", "connections"), [(1, 2), (5, 2), (2, 2)])
async def test_load_sends_no_more_requests_than_wanted(requests: int, connections: int) -> None:
    Answering.seen = seen = []
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]

    await send(Load(port=port, method="GET", paths=["/"], connections=connections, requests=requests))

    assert len(seen) == requests
    server.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")
def test_process_counts_for_its_own_part_only() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        parts = machine.trees({"whole": os.getpid(), "inner": child.pid})
        memory = machine.memory_mb({"inner": child.pid})

        assert parts["inner"] == [child.pid]
        assert os.getpid() in parts["whole"]
        assert child.pid not in parts["whole"]
        assert memory["inner"] > 0
        child.communicate(b"\n")


@pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc")
def test_file_system_is_that_of_the_longest_mount() -> None:
    assert machine.file_system(Path("/proc/self")) == "proc"
    assert machine.busy_s() > 0


async def test_durable_server_flushes_its_commits() -> None:
    server = PostgresServer(durable=True)
    if not server.ours or server.available():
        pytest.skip("needs a private PostgreSQL")
    with server:
        connection = await asyncpg.connect(server.url)
        try:
            settings = [await connection.fetchval(f"show {name}") for name in ("fsync", "full_page_writes")]
        finally:
            await connection.close()

    assert settings == ["on", "on"]


@pytest.mark.parametrize("module", ["auth_service", "order_service"])
def test_peer_compiles(module: str) -> None:
    source = _ROOT / "scripts" / "bench_peer" / f"{module}.py"

    compile(source.read_text(), str(source), "exec")


def test_script_explains_its_options() -> None:
    done = subprocess.run([_ROOT / "scripts" / "bench", "--help"], capture_output=True, text=True, check=True)

    for option in ("--quick", "--json FILE", "--plot FILE", "--folder", "pgbench"):
        assert option in done.stdout
