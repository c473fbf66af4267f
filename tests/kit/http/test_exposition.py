"""The text of ``/metrics``: what was counted, what waits on servers, and the counts of all workers."""

import asyncio
import socket
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack

import pytest
from prometheus_client import Gauge, Metric
from prometheus_client.parser import text_string_to_metric_families

from purveyor.kit.http import exposition as module
from purveyor.kit.http.exposition import CachedMetrics
from purveyor.kit.metrics import EVENTS_WAITING, HTTP_SECONDS, MAILS_WAITING, SHARED, TASK_DEATHS
from purveyor.kit.process import siblings as siblings_module
from purveyor.kit.process.siblings import Siblings, make_siblings


@pytest.fixture(autouse=True)
def always_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHED_S", 0.0)


@pytest.fixture
def workers() -> Iterator[list[Siblings]]:
    made = make_siblings(3)
    yield made
    for each in made:
        each.listener.close()


def families(text: bytes) -> dict[str, Metric]:
    """Text as Prometheus reads it; a metric that is announced twice is an error."""
    found: dict[str, Metric] = {}
    for family in text_string_to_metric_families(text.decode()):
        assert family.name not in found
        found[family.name] = family
    return found


def values(text: bytes, gauge: Gauge) -> dict[str, float]:
    """The values of a gauge by its only label."""
    family = families(text).get(next(iter(gauge.describe())).name)
    return {next(iter(one.labels.values())): one.value for one in family.samples} if family else {}


async def test_gauges_are_measured_once_for_all_who_ask_within_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHED_S", 3600)
    asked = 0

    async def measure() -> Mapping[str, float]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return {"due": asked, "later": 7}

    metrics = CachedMetrics({MAILS_WAITING: measure})
    texts = await asyncio.gather(*(metrics.text() for _ in range(20)))

    assert [values(text, MAILS_WAITING) for text in texts] == [{"due": 1, "later": 7}] * 20
    assert asked == 1


@pytest.mark.parametrize("hangs", [False, True])
async def test_gauge_of_a_server_that_is_away_has_no_value(
    monkeypatch: pytest.MonkeyPatch, *, hangs: bool
) -> None:
    monkeypatch.setattr(module, "_MEASURE_S", 0.05)
    away = False

    async def mails() -> Mapping[str, float]:
        if away:
            await asyncio.sleep(3600 if hangs else 0)
            raise OSError("no ledger")
        return {"due": 3}

    async def events() -> Mapping[str, float]:
        return {"order.created": 4}

    metrics = CachedMetrics({MAILS_WAITING: mails, EVENTS_WAITING: events})
    before = await metrics.text()
    away = True
    during = await metrics.text()

    assert (values(before, MAILS_WAITING), values(during, MAILS_WAITING)) == ({"due": 3}, {})
    assert values(during, EVENTS_WAITING) == {"order.created": 4}


async def test_scrape_of_one_worker_has_the_counts_of_all(workers: list[Siblings]) -> None:
    TASK_DEATHS.labels("test of workers").inc(5)
    HTTP_SECONDS.labels("/of-workers").observe(0.003)

    async def waiting() -> Mapping[str, float]:
        return {"due": 2}

    async with AsyncExitStack() as stack:
        for each in workers[:2]:
            await stack.enter_async_context(each.answering())
        text = await CachedMetrics({MAILS_WAITING: waiting}, workers[0]).text()

    found = families(text)
    deaths = [one for one in found["purveyor_task_deaths"].samples if one.labels["task"] == "test of workers"]
    assert {one.labels["worker"]: one.value for one in deaths} == {"0": 5, "1": 5}, "the third does not answer"
    buckets = [one.labels for one in found["purveyor_http_request_seconds"].samples if "le" in one.labels]
    assert {"route": "/of-workers", "le": "+Inf", "worker": "1"} in buckets
    assert values(text, MAILS_WAITING) == {"due": 2}, "not once for each worker"
    assert "_created" not in text.decode()


async def test_neighbour_that_talks_nonsense_or_reads_nothing_stops_no_scrape(
    workers: list[Siblings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(siblings_module, "_ANSWER_S", 0.1)

    async def nonsense(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK")
        writer.close()

    async with workers[0].answering(), await asyncio.start_server(nonsense, sock=workers[1].listener):
        with socket.create_connection(("127.0.0.1", workers[0].ports[0])):
            found = {metric.name: metric for metric in await workers[0].metrics()}

    assert {one.labels["worker"] for metric in found.values() for one in metric.samples} == {"0"}


def test_what_waits_has_no_series_before_it_is_measured() -> None:
    for gauge in (MAILS_WAITING, EVENTS_WAITING):
        gauge.clear()
    assert [sample for family in SHARED.collect() for sample in family.samples] == []
