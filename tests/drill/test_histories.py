"""Small histories of one order: each anomaly is found, and what a sequence of changes explains is accepted."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from drill.desk_server import ORDER, Build, DeskServer
from drill.samples import good_observations
from drill.test_report import PLANNED, RUN
from purveyor_drill.customers import Customer
from purveyor_drill.desk import Desk, round_s
from purveyor_drill.http_client import HttpClient
from purveyor_drill.invariants_histories import anomalies
from purveyor_drill.journal import Journal
from purveyor_drill.observations import Operation, OrderHistory, Purchase
from purveyor_drill.report import judge
from waiting import until

Story = tuple[list[Operation], OrderHistory]


def operation(kind: str, name: str, client: str, at: tuple[float, float], **rest: object) -> Operation:
    given = {"order_id": "order-1", "process": "orders-1", "status": 200, **rest}
    return Operation(id=name, client=client, kind=kind, sent_at=at[0], ended_at=at[1], **given)


def read(name: str, client: str, at: tuple[float, float], version: int, state: str) -> Operation:
    return operation("read", name, client, at, version=version, state=state)


def change(name: str, client: str, at: tuple[float, float], base: int, sets: str, **rest: object) -> Operation:
    """A change, acknowledged as the version after its base unless the rest says otherwise."""
    answer = {"version": base + 1, "state": sets, **rest}
    return operation("change", name, client, at, base=base, sets=sets, **answer)


def history(*changes: str, state: str, version: int | None = None) -> OrderHistory:
    return OrderHistory(
        order_id="order-1", version=version or 1 + len(changes), payment_status=state, changes=changes
    )


def good_story() -> Story:
    """Two writers compete for version 2, the loser reads again and makes version 3. A reader sees it all."""
    operations = [
        read("r1", "ann", (0, 1), 1, "unpaid"),
        read("r2", "bob", (0, 1), 1, "unpaid"),
        change("c1", "ann", (2, 4), 1, "paid"),
        change("c2", "bob", (2, 5), 1, "refunded", status=412, version=2, state=""),
        read("r3", "eve", (3, 6), 1, "unpaid"),  # it overlaps c1, so both versions are right
        read("r4", "bob", (6, 7), 2, "paid"),
        change("c3", "bob", (8, 9), 2, "unpaid"),
        read("r5", "eve", (8.5, 9.5), 3, "unpaid"),  # it overlaps c3
        read("r6", "ann", (10, 11), 3, "unpaid"),
    ]
    return operations, history("c1", "c3", state="unpaid")


def replaced(story: Story, name: str, other: Operation) -> Story:
    operations, stored = story
    return [other if each.id == name else each for each in operations], stored


def lost_update() -> Story:
    """``bob`` changes version 1 when it is version 2, and gets version 3."""
    operations = good_story()[0][:3]
    return [*operations, change("c2", "bob", (5, 6), 1, "refunded", version=3)], history(
        "c1", "c2", state="refunded"
    )


def lost_update_without_an_answer() -> Story:
    operations = good_story()[0][:3]
    unknown = change("c2", "bob", (5, 11), 1, "refunded", status=0, version=0, state="")
    return [*operations, unknown], history("c1", "c2", state="refunded")


def backwards() -> Story:
    """``eve`` sees version 3 while it is being made, and then version 2."""
    operations, stored = good_story()
    seen = [read("r5", "eve", (8, 8.2), 3, "unpaid"), read("r7", "eve", (8.3, 8.5), 2, "paid")]
    return [*(each for each in operations if each.id != "r5"), *seen], stored


def stale_read() -> Story:
    return replaced(good_story(), "r4", read("r4", "dan", (5.5, 7), 1, "unpaid"))


def stale_after_a_read() -> Story:
    """``eve`` saw version 3 before its change was acknowledged, so nobody may see version 2 any more."""
    operations, stored = replaced(good_story(), "r5", read("r5", "eve", (8, 8.2), 3, "unpaid"))
    return [*operations, read("r7", "dan", (8.3, 8.5), 2, "paid")], stored


def two_winners() -> Story:
    operations, _ = replaced(good_story(), "c2", change("c2", "bob", (2, 5), 1, "paid"))
    return operations, history("c1", "c3", state="unpaid")


def missing_change() -> Story:
    return good_story()[0], history("c1", state="paid")


def stored_as_another_version() -> Story:
    return good_story()[0], history("c3", "c1", state="paid")


def refused_and_stored() -> Story:
    return good_story()[0], history("c1", "c3", "c2", state="refunded")


def stored_twice() -> Story:
    return good_story()[0], history("c1", "c3", "c3", state="unpaid")


def sent_by_nobody() -> Story:
    return good_story()[0], history("c1", "c3", "c9", state="paid")


def versions_without_changes() -> Story:
    return good_story()[0], history("c1", "c3", version=4, state="unpaid")


def two_states() -> Story:
    return replaced(good_story(), "r6", read("r6", "ann", (10, 11), 3, "paid"))


def another_state_stored() -> Story:
    return good_story()[0], history("c1", "c3", state="paid")


def seen_before_it_was_sent() -> Story:
    return replaced(good_story(), "r4", read("r4", "dan", (6, 7), 3, "unpaid"))


def refused_as_stale_while_current() -> Story:
    return replaced(
        good_story(), "c2", change("c2", "bob", (1.5, 1.8), 1, "paid", status=412, version=1, state="")
    )


def forbidden() -> Story:
    return replaced(good_story(), "c2", change("c2", "bob", (2, 5), 1, "paid", status=403, version=0, state=""))


ANOMALIES: dict[Callable[[], Story], str] = {
    lost_update: "change c2 of bob was based on version 1 and made version 3: an update is lost",
    lost_update_without_an_answer: "change c2 of bob was based on version 1 and made version 3",
    backwards: "read r7 of eve shows version 2, but its client had seen version 3",
    stale_read: "read r4 of dan shows version 1, but version 2 had been shown before",
    stale_after_a_read: "read r7 of dan shows version 2, but version 3 had been shown before",
    two_winners: "version 2 was acknowledged to change c1 of ann and to change c2 of bob",
    missing_change: "change c3 of bob was acknowledged as version 3 and is missing",
    stored_as_another_version: "change c1 of ann was acknowledged as version 2, stored is 3",
    refused_and_stored: "change c2 of bob was refused with 412 and is stored as version 4",
    stored_twice: "change c3 is stored 2 times",
    sent_by_nobody: "change c9 is stored and no client sent it",
    versions_without_changes: "version 4 is stored with 2 changes",
    two_states: "version 3 was paid and unpaid",
    another_state_stored: "version 3 was paid and unpaid",
    seen_before_it_was_sent: "change c3 of bob made version 3, which had been shown before it was sent",
    refused_as_stale_while_current: "change c2 of bob was refused although version 1 was current",
    forbidden: "change c2 of bob was refused with 403",
}


@pytest.mark.parametrize("planted", ANOMALIES, ids=lambda planted: planted.__name__)
def test_planted_anomaly_is_found(planted: Callable[[], Story]) -> None:
    operations, stored = planted()
    assert [told for told in anomalies(stored, operations) if told.startswith(ANOMALIES[planted])]


def test_order_of_the_records_does_not_matter() -> None:
    operations, stored = stale_read()
    assert list(anomalies(stored, operations[::-1])) == list(anomalies(stored, operations)) != []


def unknown(**rest: object) -> Operation:
    return change("c2", "bob", (2, 8), 1, "refunded", **{"status": 0, "version": 0, "state": "", **rest})


@pytest.mark.parametrize(
    ("operations", "stored"),
    [
        pytest.param(*good_story(), id="no trouble"),
        pytest.param([unknown()], history(state="unpaid"), id="timeout, not stored"),
        pytest.param([unknown()], history("c2", state="refunded"), id="timeout, stored"),
        pytest.param([unknown(status=503)], history("c2", state="refunded"), id="503, stored"),
        pytest.param(
            [unknown(), read("r1", "bob", (9, 10), 1, "unpaid"), read("r2", "bob", (11, 12), 2, "refunded")],
            history("c2", state="refunded"),
            id="timeout, stored later",
        ),
        pytest.param(
            [unknown(), change("c3", "ann", (3, 4), 2, "paid"), read("r1", "eve", (2.5, 3), 2, "refunded")],
            history("c2", "c3", state="paid"),
            id="others go on from a change before its outcome is known",
        ),
        pytest.param(
            [unknown(), change("c3", "ann", (9, 10), 1, "paid")], history("c3", state="paid"), id="lost the race"
        ),
        pytest.param(
            [
                unknown(),
                operation("read", "r1", "eve", (3, 9), status=0),
                read("r2", "eve", (9, 9.5), 1, "unpaid"),
            ],
            history(state="unpaid"),
            id="read without an answer",
        ),
        pytest.param([unknown(status=409)], history(state="unpaid"), id="409"),
    ],
)
def test_history_that_a_sequence_explains_is_accepted(operations: list[Operation], stored: OrderHistory) -> None:
    assert list(anomalies(stored, operations)) == []


async def work(build: Build, folder: Path) -> tuple[list[Operation], OrderHistory]:
    """Let the clients of a desk work on one order until they have sent some hundred requests."""
    over = asyncio.Event()
    async with DeskServer(build) as server, HttpClient() as client:
        front = SimpleNamespace(name="orders-1", port=server.port)
        with Journal(folder / "journal.jsonl") as journal:
            journal.planned(Purchase(key="", email="", due_at=0, quantities={}, order_id=ORDER))
            desk = Desk(
                client=client,
                fronts=[front],
                clerk=Customer(1, "example.com", "password", front),
                journal=journal,
                every_s=0.01,
                seed=1,
            )
            working = asyncio.create_task(desk.run(over))
            await until(lambda: server.requests > 300 and server.lost_answers)
            over.set()
            await working
        return journal.operations, server.history


@pytest.mark.parametrize(
    ("build", "headline", "told"),
    [
        ("right", "Proven", ""),
        ("ignores If-Match", "Violated: I12", "an update is lost"),
        ("writes blindly", "Violated: I12", "and is missing"),
        ("reads from a stale copy", "Violated: I12", "had been shown before"),
    ],
)
async def test_drill_finds_a_shop_that_loses_changes(
    build: Build, headline: str, told: str, tmp_path: Path
) -> None:
    observed = good_observations()
    observed.operations, history = await work(build, tmp_path)
    observed.histories = [history]

    report = judge(RUN, PLANNED, observed)

    assert report.headline.startswith(headline), report.verdicts[-1].examples
    assert any(told in example for example in report.verdicts[-1].examples) or not told
    figures = report.figures
    assert (
        min(figures.changes_done, figures.changes_unknown, figures.changes_unknown_stored, figures.reads_done) > 0
    )


def test_order_that_is_gone_is_found() -> None:
    observed = good_observations()
    observed.operations = good_story()[0]
    assert judge(RUN, PLANNED, observed).headline.startswith("Violated: I12")


def test_rounds_follow_the_rate_of_the_load() -> None:
    assert round_s(50) == pytest.approx(0.667, abs=0.001)
    assert round_s(0.1) == 5.0
