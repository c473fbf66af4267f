"""One suite over both mail ledgers: whatever holds of one holds of the other."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import asyncpg  # type: ignore[import-untyped]
import msgspec
import pytest
from motor.motor_asyncio import AsyncIOMotorClient

from purveyor.kit.clock import now
from purveyor.kit.errors import ConfigError, ServerAway, StartupError, Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.outbox import Relay
from purveyor.kit.http.health import examine
from purveyor.kit.ids import new_id
from purveyor.roles.email import role
from purveyor.roles.email.contract import MailDataExported, MailRecord, MailSettled
from purveyor.roles.email.events import answer_to, settled_event
from purveyor.roles.email.ledger import (
    mongo as ledger_mongo,
)
from purveyor.roles.email.ledger import (
    mongo as mongo_owner,
)
from purveyor.roles.email.ledger import (
    mongo as mongo_server,
)
from purveyor.roles.email.ledger import (
    postgres as ledger_postgres_owner,
)
from purveyor.roles.email.ledger.mongo import MongoLedger, MongoRelay, open_ledger
from purveyor.roles.email.ledger.mongo_documents import new_document
from purveyor.roles.email.ledger.postgres import PostgresLedger
from purveyor.roles.email.ports import DOUBT_PAUSE_S, Claim, ClaimLost, DoubtPolicy, Ledger, NewMail
from purveyor.roles.email.privacy import Retention
from purveyor.roles.email.role import EmailSettings
from purveyor.settings import Url
from purveyor_drill.servers.mongodb import MongoServer
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.process import free_port
from roles.email.ledger.support import (
    Bench,
    account,
    bring_to,
    finish,
    freed,
    mail,
    only_mongo,
    only_postgres,
    recover,
    state,
    take,
    wait_due,
)
from waiting import PATIENCE_S, until

OWNER = Path(__file__).with_name("ledger_owner.py")
TELL_WHICH_INDEXES_THEY_USE = [PostgresServer, *([MongoServer] if MongoServer.genuine() else [])]
"""The stand-in for MongoDB does not."""


async def test_a_mail_is_recorded_once_and_stays_as_it_was(ledger: Ledger) -> None:
    first = mail(7, created_at=datetime(2026, 1, 2, 3, 4, 5, 678000, UTC))
    assert await ledger.record(first)
    assert not await ledger.record(mail(8, event_id=first.event_id))
    assert await ledger.record(mail(7, event_id=first.event_id, recipient="bob@b.test"))
    assert await ledger.record(mail(7, event_id=first.event_id, kind="order.shipped"))
    found = await ledger.find(first.event_id)
    records = {(r.kind, r.recipient): r for r in await ledger.list("", (), 10)}
    assert found is not None
    assert found[1] == first.message
    assert len(records) == 3
    record = records["order.created", "ann@b.test"]
    assert (record.event_id, record.order_number, record.subject) == (first.event_id, 7, "Order 7")
    assert (record.message_id, record.state) == ("<7@shop.test>", "pending")
    assert (record.attempts, record.resends, record.smtp_reply, record.error) == (0, 0, "", "")
    assert record.created_at == first.created_at
    assert abs((datetime.now(UTC) - record.updated_at).total_seconds()) < 5


async def test_the_same_mail_recorded_by_many_at_once(ledger: Ledger, other: Ledger) -> None:
    new = mail()
    added = await asyncio.gather(*(side.record(new) for _ in range(4) for side in (ledger, other)))
    assert sorted(added) == [False] * 7 + [True]


async def test_a_mail_without_an_order_number(ledger: Ledger, me: str) -> None:
    new = mail(order_number=None)
    await ledger.record(new)
    (record,) = await ledger.list("pending", (), 10)
    assert record.order_number is None


async def test_claims_are_complete_oldest_first_and_not_given_twice(ledger: Ledger, me: str) -> None:
    mails = [mail(number) for number in range(3)]
    for new in mails:
        await ledger.record(new)
        await asyncio.sleep(0.005)  # both databases keep the time of a due mail in milliseconds or finer
    first, second = await ledger.claim(me, 2)
    assert {first.event_id, second.event_id} == {new.event_id for new in mails[:2]}
    claim = next(claim for claim in (first, second) if claim.event_id == mails[0].event_id)
    assert (claim.kind, claim.recipient, claim.message_id) == ("order.created", "ann@b.test", "<0@shop.test>")
    assert (claim.message, claim.owner, claim.attempt) == (mails[0].message, me, 1)
    assert claim.created_at == mails[0].created_at
    assert [claim.event_id for claim in await ledger.claim(me, 5)] == [mails[2].event_id]
    assert await ledger.claim(me, 5) == []
    assert [record.state for record in await ledger.list("", (), 10)] == ["claimed"] * 3


@pytest.mark.usefixtures("patient")
async def test_two_senders_never_share_a_mail(bench: Bench, ledger: Ledger, other: Ledger) -> None:
    count = 20 if bench.is_mongo and not MongoServer.genuine() else 60  # its stand-in is slow
    for number in range(count):
        await ledger.record(mail(number))

    async def work(side: Ledger) -> list[str]:
        async with side.ownership() as owner:
            taken: list[str] = []
            while claims := await side.claim(owner.name, 3):
                for claim in claims:
                    await side.mark_data(claim)
                    await side.mark_sent(claim, "250 ok")
                    taken.append(claim.event_id)
                assert await recover(side, "resend") == 0
            return taken

    taken = [
        event_id for each in await asyncio.gather(*(work(s) for s in (ledger, other) * 2)) for event_id in each
    ]
    assert len(taken) == len(set(taken)) == count
    assert {(r.state, r.attempts, r.resends) for r in await ledger.list("", (), 100)} == {("sent", 1, 0)}


async def test_the_way_of_a_mail_that_is_sent(ledger: Ledger, me: str) -> None:
    event_id = (await _recorded(ledger)).event_id
    claim = await take(ledger, me)
    await ledger.mark_data(claim)
    assert await state(ledger, event_id) == "data"
    await ledger.mark_sent(claim, "250 $ok {queued}")
    await ledger.mark_sent(claim, "250 again")
    (record,) = await ledger.list("sent", (), 10)
    assert (record.smtp_reply, record.error, record.attempts) == ("250 $ok {queued}", "", 1)


async def test_nothing_is_sent_before_data(ledger: Ledger, me: str) -> None:
    event_id = (await _recorded(ledger)).event_id
    claim = await take(ledger, me)
    await ledger.mark_sent(claim, "250 ok")
    await ledger.mark_doubtful(claim, "cut", "resend")
    assert await state(ledger, event_id) == "claimed"
    await ledger.mark_data(claim)
    with pytest.raises(ClaimLost):
        await ledger.mark_data(claim)


async def test_a_retry_does_not_come_before_its_pause_is_over(ledger: Ledger, me: str) -> None:
    await _recorded(ledger)
    await ledger.mark_retry(await take(ledger, me), reply="451 later", error="not sent", pause_s=3600)
    assert await ledger.claim(me, 1) == []


async def test_a_record_names_the_next_attempt_only_while_it_waits(ledger: Ledger, me: str) -> None:
    event_id = (await _recorded(ledger)).event_id
    claim = await take(ledger, me)
    found = await ledger.find(event_id)
    assert found is not None
    assert found[0].next_attempt_at is None
    await ledger.mark_retry(claim, reply="451 later", error="not sent", pause_s=3600)
    (record,) = await ledger.list("retry", (), 10)
    assert record.next_attempt_at is not None
    assert timedelta(minutes=59) < record.next_attempt_at - record.updated_at <= timedelta(hours=1)


async def test_a_retry_comes_after_its_pause(ledger: Ledger, me: str) -> None:
    event_id = (await _recorded(ledger)).event_id
    claim = await take(ledger, me)
    await ledger.mark_retry(claim, reply="451 $later", error="not sent", pause_s=0.2)
    (record,) = await ledger.list("retry", (), 10)
    assert (record.smtp_reply, record.error, record.attempts) == ("451 $later", "not sent", 1)
    again = await wait_due(ledger, me)
    assert (again.event_id, again.attempt, again.message) == (event_id, 2, claim.message)


@pytest.mark.parametrize("at_data", [False, True])
async def test_certain_failures_settle_from_both_states(ledger: Ledger, me: str, at_data: bool) -> None:
    await _recorded(ledger)
    claim = await take(ledger, me)
    if at_data:
        await ledger.mark_data(claim)
    await ledger.mark_failed(claim, reply="550 no", error="refused by the server")
    await ledger.mark_retry(claim, reply="", error="", pause_s=0)
    (record,) = await ledger.list("", (), 10)
    assert (record.state, record.smtp_reply, record.error) == ("failed", "550 no", "refused by the server")
    assert await ledger.claim(me, 1) == []


async def test_an_old_attempt_of_the_same_sender_is_fenced(ledger: Ledger, me: str) -> None:
    event_id = (await _recorded(ledger)).event_id
    old = await take(ledger, me)
    await ledger.mark_retry(old, reply="", error="", pause_s=0)
    new = await wait_due(ledger, me)
    with pytest.raises(ClaimLost):
        await ledger.mark_data(old)
    await ledger.mark_data(new)
    await _without_effect(ledger, old, event_id, "data")


async def test_a_sender_that_was_taken_over_is_fenced(ledger: Ledger, other: Ledger, me: str) -> None:
    event_id = (await _recorded(ledger)).event_id
    async with other.ownership() as gone:
        old = await take(other, gone.name)
    assert await freed(ledger, "resend") == 1
    with pytest.raises(ClaimLost):
        await other.mark_data(old)
    new = await take(ledger, me)
    await ledger.mark_data(new)
    with pytest.raises(ClaimLost):
        await other.mark_data(old)
    await _without_effect(other, old, event_id, "data")


@pytest.mark.parametrize("policy", ["resend", "park"])
async def test_an_answer_that_comes_before_the_next_claim_counts(
    ledger: Ledger, other: Ledger, me: str, policy: DoubtPolicy
) -> None:
    await _recorded(ledger)
    async with other.ownership() as gone:
        claim = await take(other, gone.name)
        await other.mark_data(claim)
    assert await freed(ledger, policy) == 1
    await other.mark_sent(claim, "250 ok")
    (record,) = await ledger.list("", (), 10)
    assert (record.state, record.smtp_reply) == ("sent", "250 ok")
    assert await ledger.claim(me, 1) == []


@pytest.mark.parametrize(("policy", "expected"), [("resend", ("retry", 1)), ("park", ("unknown", 0))])
async def test_a_doubtful_mail(ledger: Ledger, me: str, policy: DoubtPolicy, expected: tuple[str, int]) -> None:
    await _recorded(ledger)
    claim = await take(ledger, me)
    await ledger.mark_data(claim)
    for _ in range(2):  # the second changes nothing
        await ledger.mark_doubtful(claim, "no answer to the final dot", policy)
    (record,) = await ledger.list("", (), 10)
    assert (record.state, record.resends, record.error) == (*expected, "no answer to the final dot")
    assert await ledger.claim(me, 1) == []
    if policy == "resend":
        again = await wait_due(ledger, me)
        assert (again.message_id, again.message, again.attempt) == (claim.message_id, claim.message, 2)
        assert (await _now_of(ledger, again) - record.updated_at).total_seconds() >= DOUBT_PAUSE_S - 0.01


async def _now_of(ledger: Ledger, claim: Claim) -> datetime:
    """When the mail was claimed, by the server's clock."""
    found = await ledger.find(claim.event_id)
    assert found is not None
    return found[0].updated_at


async def doubt(ledger: Ledger, claim: Claim, *, dead: bool) -> MailRecord:
    """Bring a claimed mail into doubt, told by its living sender or found after its death."""
    await ledger.mark_data(claim)
    if dead:
        assert await ledger.take_over([claim.owner], "resend") == 1
    else:
        await ledger.mark_doubtful(claim, "cut", "resend")
    found = await ledger.find(claim.event_id)
    assert found is not None
    return found[0]


@pytest.mark.parametrize("dead", [(False, False), (True, True), (False, True), (True, False)])
async def test_a_mail_in_doubt_twice_is_parked_though_told_to_resend(
    ledger: Ledger, me: str, doubt_pause_s: float, dead: tuple[bool, bool]
) -> None:
    await _recorded(ledger, order_id="o-1")
    first = await doubt(ledger, await take(ledger, me), dead=dead[0])
    again = await wait_due(ledger, me)
    await ledger.mark_retry(again, reply="451 later", error="not sent", pause_s=0)  # no doubt, and it forgets none
    second = await doubt(ledger, await wait_due(ledger, me), dead=dead[1])
    assert (first.state, first.resends) == ("retry", 1)
    assert (second.state, second.resends, second.attempts) == ("unknown", 1, 3)
    (event,) = await told(ledger)
    assert (event.state, event.resends, event.attempts) == ("unknown", 1, 3)
    await asyncio.sleep(doubt_pause_s + 0.2)
    assert await ledger.claim(me, 1) == []


@pytest.mark.usefixtures("doubt_pause_s")
@pytest.mark.parametrize("by", ["resend", "resolve"])
async def test_what_an_operator_has_sent_again_may_be_in_doubt_once_more(ledger: Ledger, me: str, by: str) -> None:
    event_id = (await _recorded(ledger)).event_id
    for resends in (1, 3):
        first = await doubt(ledger, await wait_due(ledger, me), dead=False)
        second = await doubt(ledger, await wait_due(ledger, me), dead=False)
        assert (first.state, first.resends) == ("retry", resends)
        assert (second.state, second.resends) == ("unknown", resends)
        assert await (ledger.resend(event_id) if by == "resend" else ledger.resolve(event_id, sent=False))
    await finish(ledger, await take(ledger, me))
    (record,) = await ledger.list("sent", (), 10)
    assert record.resends == 4


@pytest.mark.usefixtures("doubt_pause_s")
@pytest.mark.parametrize("kind", [MongoServer], indirect=True, scope="module")
async def test_a_document_that_is_older_than_the_count_of_doubts(ledger: Ledger, me: str) -> None:
    await _recorded(ledger)
    assert isinstance(ledger, MongoLedger)
    await ledger._mails.update_many({}, {"$unset": {"doubted": ""}})
    assert (await doubt(ledger, await take(ledger, me), dead=False)).state == "retry"
    assert (await doubt(ledger, await wait_due(ledger, me), dead=True)).state == "unknown"


@pytest.fixture
def early_death(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mongo_owner, "DEAD_AFTER_S", 2.0)  # senders beat each second


@pytest.mark.usefixtures("early_death")
@pytest.mark.parametrize(("policy", "expected"), [("resend", ("retry", 1)), ("park", ("unknown", 0))])
async def test_the_mails_of_a_killed_process_are_taken_over(
    bench: Bench, ledger: Ledger, me: str, policy: DoubtPolicy, expected: tuple[str, int]
) -> None:
    for number in range(3):
        await ledger.record(mail(number))
    mine = await take(ledger, me)
    async with _owner_process(bench.url) as process:
        await asyncio.sleep(0.3)
        assert await recover(ledger, policy) == 0
        assert len(await ledger.list("claimed", (), 10)) == 2
        process.kill()
        await process.wait()
        taken = 0
        while taken < 2:
            taken += await freed(ledger, policy)
    assert taken == 2
    records = [r for r in await ledger.list("", (), 10) if r.event_id != mine.event_id]
    by_error = {record.error: (record.state, record.resends) for record in records}
    assert by_error == {
        "the sender died": ("retry", 0),
        "the sender died while the server had the mail": expected,
    }
    assert await state(ledger, mine.event_id) == "claimed"
    due = await ledger.claim(me, 5)
    if policy == "resend":
        due = [*due, await wait_due(ledger, me)]
    assert [claim.attempt for claim in due] == [2] * (2 if policy == "resend" else 1)


async def test_after_a_clean_exit_mails_are_taken_over_at_once(ledger: Ledger, other: Ledger) -> None:
    event_id = (await _recorded(ledger)).event_id
    async with other.ownership() as owner:
        assert owner.is_alive()
        await take(other, owner.name)
        assert await recover(ledger, "resend") == 0
    assert await freed(ledger, "resend") == 1
    assert await state(ledger, event_id) == "retry"


@pytest.mark.parametrize("kind", [PostgresServer], indirect=True, scope="module")
async def test_postgres_recovery_compares_again_what_changed_meanwhile(
    bench: Bench, ledger: Ledger, other: Ledger, me: str
) -> None:
    """A dead sender's mail is freed and claimed by a living one while another recovery waits for its row."""
    event_id = (await _recorded(ledger)).event_id
    async with other.ownership() as gone:
        await take(other, gone.name)
    beside = await asyncpg.connect(bench.url)
    try:
        async with beside.transaction():
            while not await ledger.gone():  # the server learns a moment later that the connection has ended
                await asyncio.sleep(0.02)
            await beside.execute("update email.mails set owner = $1, attempts = 2", int(me))
            recovering = asyncio.create_task(recover(ledger, "resend"))
            await asyncio.sleep(0.3)
            assert not recovering.done()
        assert await recovering == 0
    finally:
        await beside.close()
    assert await state(ledger, event_id) == "claimed"


async def test_mails_that_are_not_sent_yet_are_counted(ledger: Ledger, me: str) -> None:
    assert await ledger.waiting() == {"due": 0, "later": 0, "claimed": 0}
    for wanted in ("sent", "failed", "unknown", "retry", "claimed", "data", "pending", "pending"):
        await bring_to(ledger, me, wanted)

    assert await ledger.waiting() == {"due": 2, "later": 1, "claimed": 2}


@only_postgres
async def test_who_may_only_count_the_mails_sees_none(bench: Bench, ledger: Ledger) -> None:
    """As the user of an autoscaler, with the query of configs/kubernetes."""
    await ledger.record(mail())
    connection = await asyncpg.connect(bench.url)
    try:
        await connection.execute("drop role if exists counting; create role counting")
        await connection.execute(
            "grant usage on schema email to counting; grant select on email.mails_waiting to counting"
        )
        await connection.execute("set role counting")
        assert await connection.fetchval("select due + claimed from email.mails_waiting") == 1
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute("select from email.mails")
        await connection.execute("reset role; drop owned by counting; drop role counting")
    finally:
        await connection.close()


async def test_resend_makes_a_settled_mail_due_again(ledger: Ledger, me: str) -> None:
    for settled in ("sent", "failed", "unknown", "retry"):
        event_id = await bring_to(ledger, me, settled)
        assert await ledger.resend(event_id)
        claim = await take(ledger, me)
        assert (claim.event_id, claim.attempt) == (event_id, 2)
        (record,) = await ledger.list("", [event_id], 10)
        assert (record.resends, record.error) == (1, "sent again by an operator")


async def test_resend_leaves_alone_what_is_under_way_or_not_there(ledger: Ledger, me: str) -> None:
    for under_way in ("claimed", "data", "pending"):
        event_id = await bring_to(ledger, me, under_way)
        assert not await ledger.resend(event_id)
        assert await state(ledger, event_id) == under_way
    assert not await ledger.resend(str(new_id()))
    assert not await ledger.resend("no-id")
    assert await ledger.find(str(new_id())) is None
    assert await ledger.find("no-id") is None


async def test_an_unknown_mail_is_resolved(ledger: Ledger, me: str) -> None:
    was_sent, was_not = [await bring_to(ledger, me, "unknown") for _ in range(2)]
    assert await ledger.resolve(was_sent, sent=True)
    assert await ledger.resolve(was_not, sent=False)
    records = {r.event_id: (r.state, r.resends) for r in await ledger.list("", (), 10)}
    assert records == {was_sent: ("sent", 0), was_not: ("retry", 1)}
    assert [claim.event_id for claim in await ledger.claim(me, 5)] == [was_not]


async def test_only_an_unknown_mail_is_resolved(ledger: Ledger, me: str) -> None:
    for settled in ("sent", "failed", "retry", "data", "claimed", "pending"):
        event_id = await bring_to(ledger, me, settled)
        assert not await ledger.resolve(event_id, sent=True)
        assert await state(ledger, event_id) == settled
    assert not await ledger.resolve(str(new_id()), sent=True)


async def test_list_filters_and_shows_the_newest_first(ledger: Ledger, me: str) -> None:
    sent = [await bring_to(ledger, me, "sent") for _ in range(2)]
    failed = await bring_to(ledger, me, "failed")
    everything = [*reversed([*sent, failed])]

    async def ids(*arguments: Any) -> list[str]:
        return [record.event_id for record in await ledger.list(*arguments)]

    assert await ids("", (), 10) == everything
    assert await ids("", (), 2) == everything[:2]
    assert await ids("sent", (), 10) == everything[1:]
    assert await ids("", (failed, sent[0], str(new_id())), 10) == [failed, sent[0]]
    assert await ids("sent", (failed, sent[0]), 10) == [sent[0]]
    assert await ids("unknown", (), 10) == []


async def test_a_state_that_there_is_not_lists_nothing(ledger: Ledger) -> None:
    await _recorded(ledger)
    assert await ledger.list("' or true --", (), 10) == []


async def _used(ledger: Ledger) -> set[str]:
    """The indexes of the mails that some statement has used."""
    if isinstance(ledger, MongoLedger):
        found = ledger._mails.aggregate([{"$indexStats": {}}])
        return {stats["name"] async for stats in found if stats["accesses"]["ops"]}
    assert isinstance(ledger, PostgresLedger)
    rows = await ledger._database.fetch(
        "select indexrelname from pg_stat_user_indexes where schemaname = 'email' and idx_scan > 0"
    )
    return {row["indexrelname"].removeprefix("mails_") for row in rows}


async def _fill(ledger: Ledger) -> None:
    """So many mails of one person that PostgreSQL finds it cheaper to read an index than all."""
    if isinstance(ledger, MongoLedger):
        new = [new_document(mail(), now()) for _ in range(50)]
        await ledger._mails.insert_many([document | {"state": "sent"} for document in new])
        return
    assert isinstance(ledger, PostgresLedger)
    for _ in range(5):
        await ledger._database.execute(
            """
            insert into email.mails
                (event_id, kind, recipient, user_id, subject, message_id, message, created_at, state)
            select gen_random_uuid(), 'order.created', 'ann@b.test', 'account of ann@b.test', '', '', 'x',
                now() - interval '1 s' * n, 'sent'
            from generate_series(1, 1000) n"""
        )
    await ledger._database.execute("analyze email.mails")


@pytest.mark.parametrize("kind", TELL_WHICH_INDEXES_THEY_USE, indirect=True, scope="module")
async def test_no_list_reads_the_whole_ledger(ledger: Ledger) -> None:
    await _fill(ledger)
    (newest,) = await ledger.list("", (), 1)
    await ledger.list("failed", (), 50)
    await ledger.of_account(account(newest.recipient), newest, 50)
    await ledger.empty_sent(1, 50)

    async def all_used() -> bool:  # PostgreSQL counts when a session has been idle for a moment
        return {"list", "list_of_state", "of_user", "kept"} <= await _used(ledger)

    await until(all_used)


async def test_a_frozen_server_is_unavailable_in_time_and_heals(bench: Bench, ledger: Ledger, me: str) -> None:
    event_id = (await _recorded(ledger)).event_id
    claim = await take(ledger, me)
    calls = [ledger.record(mail()), ledger.mark_data(claim), ledger.list("", (), 1), ledger.check()]
    bench.server.freeze()
    try:
        async with asyncio.timeout(PATIENCE_S):
            results = await asyncio.gather(*calls, return_exceptions=True)
    finally:
        bench.server.thaw()
    assert [type(result) for result in results] == [Unavailable] * len(calls)
    assert await state(ledger, event_id) in ("claimed", "data")  # the server may have read it before
    assert await recover(ledger, "resend") == 0
    await ledger.mark_retry(claim, reply="", error="", pause_s=0)
    due = [await wait_due(ledger, me)]
    due += await ledger.claim(me, 5)  # with it the new mail, if the server had read that before
    assert event_id in [claim.event_id for claim in due]


async def test_a_dead_server_is_unavailable_and_heals(bench: Bench, ledger: Ledger) -> None:
    event_id = (await _recorded(ledger)).event_id
    bench.server.halt()
    try:
        async with asyncio.timeout(PATIENCE_S):
            with pytest.raises(Unavailable):
                await ledger.find(event_id)
            with pytest.raises(Unavailable):
                async with ledger.ownership():
                    raise AssertionError("there is no server")
    finally:
        bench.server.restart()

    async def healed() -> str:
        try:
            return await state(ledger, event_id)
        except Unavailable:
            return ""

    assert await until(healed) == "pending"


@pytest.mark.parametrize("kind", [MongoServer], indirect=True, scope="module")
@pytest.mark.parametrize("console", [False, True])
async def test_without_mongodb_a_process_is_degraded_and_says_which_server_it_misses(
    bench: Bench, ledger: Ledger, console: bool
) -> None:
    env: Any = SimpleNamespace(console=console, database_kind="embedded")
    checks = {"email": [role._ledger_check(env, EmailSettings(mongodb_uri=Url(bench.url)), ledger)]}
    server = f"at {mongo_server.address_of(bench.url)}"
    said = (await examine(checks, {})).dependencies["mail ledger"].detail
    assert re.fullmatch(rf"MongoDB [0-9.]+\S* {re.escape(server)}", said)
    bench.server.halt()
    try:
        health = await examine(checks, {})
    finally:
        bench.server.restart()
    assert health.status == health.dependencies["mail ledger"].status == ("down" if console else "degraded")
    assert health.dependencies["mail ledger"].detail.startswith(f"MongoDB {server}: ")


async def test_a_sender_that_the_ledger_lost_sight_of_knows_it(
    bench: Bench, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_owner, "DEAD_AFTER_S", 1.0)
    monkeypatch.setattr(mongo_owner, "BEAT_S", 0.1)
    async with ledger.ownership() as owner:
        await asyncio.sleep(1.2)
        assert owner.is_alive()
        bench.server.halt()
        try:
            await until(lambda: not owner.is_alive())
        finally:
            bench.server.restart()


async def test_a_frozen_sender_is_gone_while_its_connection_stays(
    bench: Bench, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ledger_postgres_owner, "DEAD_AFTER_S", 2.0)
    monkeypatch.setattr(mongo_owner, "DEAD_AFTER_S", 2.0)
    event_id = (await _recorded(ledger)).event_id
    async with _owner_process(bench.url, silent_s=2.0, mails=1) as process:
        process.send_signal(signal.SIGSTOP)
        await freed(ledger, "park")
    assert await state(ledger, event_id) == "unknown"


async def test_a_sender_that_beats_is_not_gone(
    ledger: Ledger, other: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (ledger_postgres_owner, mongo_owner):
        monkeypatch.setattr(module, "DEAD_AFTER_S", 2.0)
        monkeypatch.setattr(module, "BEAT_S", 0.1)
    await _recorded(ledger)
    async with other.ownership() as owner:
        await take(other, owner.name)
        await asyncio.sleep(3.0)
        assert owner.is_alive()
        assert await ledger.gone() == []


class Hears:
    """A transport that confirms what ``hears`` says, and keeps it."""

    def __init__(self, hears: Callable[[Envelope], bool] = lambda _: True) -> None:
        self.heard: list[Envelope] = []
        self.hears = hears

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        confirmed = [self.hears(sent) for sent in envelopes]
        self.heard += [sent for sent, heard in zip(envelopes, confirmed, strict=True) if heard]
        return [None if heard else Unavailable("away") for heard in confirmed]


async def relayed(ledger: Ledger) -> Sequence[Envelope]:
    """What the ledger tells now, and once only."""
    transport: Any = Hears()
    if isinstance(ledger, MongoLedger):
        await MongoRelay(ledger, transport)._relay()
    else:
        assert isinstance(ledger, PostgresLedger)
        relay = Relay(ledger._database, "email", transport, forget=True, order_by="occurred_at, id")
        await relay.batch()
    heard: list[Envelope] = transport.heard
    return heard


async def told(ledger: Ledger) -> Sequence[MailSettled]:
    """The events of what is ``relayed``."""
    return [msgspec.json.decode(sent.body, type=MailSettled) for sent in await relayed(ledger)]


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("settled", ["sent", "failed", "unknown"])
async def test_settled_mail_of_an_order_is_told_once_with_the_request_and_trace_of_its_event(
    ledger: Ledger, me: str, settled: str
) -> None:
    event_id = await bring_to(ledger, me, settled, order_id="o-1", request_id="r-1", traceparent=TRACE)
    (first,) = await relayed(ledger)
    (record,) = await ledger.list("", [event_id], 10)
    event = msgspec.json.decode(first.body, type=MailSettled)
    assert [getattr(event, name) for name in event.__struct_fields__] == [
        getattr(record, name) for name in event.__struct_fields__
    ]
    assert (first.type, first.subject, first.occurred_at) == ("mail.settled", "o-1", record.updated_at)
    assert (first.correlation_id, first.traceparent) == ("r-1", TRACE)
    assert await relayed(ledger) == []
    await ledger.resend(event_id)
    assert await relayed(ledger) == []
    await finish(ledger, await take(ledger, me))
    (again,) = await relayed(ledger)
    event = msgspec.json.decode(again.body, type=MailSettled)
    assert (event.state, event.resends) == ("sent", 1)
    assert again.id != first.id
    assert await relayed(ledger) == []


async def test_mails_of_no_order_and_mails_under_way_are_not_told(ledger: Ledger, me: str) -> None:
    await bring_to(ledger, me, "sent")
    for under_way in ("claimed", "data", "retry", "pending"):
        await bring_to(ledger, me, under_way, order_id="o-1")
    assert await relayed(ledger) == []


async def test_operators_word_on_an_unknown_mail_is_told(ledger: Ledger, me: str) -> None:
    event_id = await bring_to(ledger, me, "unknown", order_id="o-1")
    assert [event.state for event in await told(ledger)] == ["unknown"]
    assert await ledger.resolve(event_id, sent=True)
    assert [event.state for event in await told(ledger)] == ["sent"]


async def test_mails_are_told_oldest_first(ledger: Ledger, me: str) -> None:
    ids = []
    for _ in range(3):
        ids.append(await bring_to(ledger, me, "sent", order_id="o-1"))
        await asyncio.sleep(0.005)
    assert [event.event_id for event in await told(ledger)] == ids


@pytest.mark.parametrize("policy", ["resend", "park"])
async def test_take_over_is_told_where_it_settles(ledger: Ledger, other: Ledger, policy: DoubtPolicy) -> None:
    async with other.ownership() as gone:
        await bring_to(other, gone.name, "data", order_id="o-1")
    await freed(ledger, policy)
    assert [event.state for event in await told(ledger)] == (["unknown"] if policy == "park" else [])


@only_postgres
async def test_mail_that_was_settled_by_an_older_version_is_told_too(ledger: Ledger, me: str) -> None:
    """Older versions of the PostgreSQL ledger settle a mail and leave it to a later look to tell."""
    assert isinstance(ledger, PostgresLedger)
    ids = [await bring_to(ledger, me, "data", order_id="o-1") for _ in range(150)]
    await ledger._database.execute("update email.mails set state = 'sent' where state = 'data'")
    assert await relayed(ledger) == []
    await ledger.emit_settled()
    assert {event.event_id for event in [*await told(ledger), *await told(ledger)]} == set(ids)


@only_mongo
async def test_record_that_changed_while_it_was_told_is_told_again(ledger: Ledger, me: str) -> None:
    assert isinstance(ledger, MongoLedger)
    event_id = await bring_to(ledger, me, "unknown", order_id="o-1")
    reports = await ledger.unreported(10)
    assert await ledger.resolve(event_id, sent=True)
    await ledger.mark_reported(reports)
    assert [event.state for event in await told(ledger)] == ["sent"]


@only_mongo
async def test_document_of_an_older_version_is_told_without_a_trace(ledger: Ledger, me: str) -> None:
    assert isinstance(ledger, MongoLedger)
    await bring_to(ledger, me, "sent", order_id="o-1", request_id="r-1", traceparent=TRACE)
    await ledger._mails.update_many({}, {"$unset": {"traceparent": 1}})
    (sent,) = await relayed(ledger)
    assert (sent.correlation_id, sent.traceparent) == ("r-1", "")


@only_mongo
async def test_two_relays_tell_the_same_under_the_same_id(ledger: Ledger, me: str) -> None:
    assert isinstance(ledger, MongoLedger)
    await bring_to(ledger, me, "sent", order_id="o-1")
    first, second = await ledger.unreported(10), await ledger.unreported(10)
    assert [settled_event(report).id for report in first] == [settled_event(report).id for report in second]


@only_mongo
async def test_relay_of_a_ledger_tells_again_what_was_not_confirmed_after_growing_pauses(
    ledger: Ledger, me: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert isinstance(ledger, MongoLedger)
    ids = [await bring_to(ledger, me, "sent", order_id="o-1") for _ in range(4)]
    transport: Any = Hears(lambda _: False)
    relay = MongoRelay(ledger, transport)
    assert [await relay._relay() for _ in range(3)] == [1.0, 2.0, 4.0]
    places = iter(range(4))
    transport.hears = lambda _: next(places) % 2 == 0
    assert await relay._relay() == 8.0
    transport.hears = lambda _: True
    assert await relay._relay() is None
    assert await relay._relay() is None
    heard = [msgspec.json.decode(sent.body, type=MailSettled).event_id for sent in transport.heard]
    assert sorted(heard) == sorted(ids)
    assert caplog.text.count("is not reported") == 4
    transport.hears = lambda _: False
    await bring_to(ledger, me, "sent", order_id="o-1")
    assert await relay._relay() == 1.0, "it begins anew once all arrived"


@only_mongo
async def test_answer_that_is_not_confirmed_is_an_error(ledger: Ledger) -> None:
    transport: Any = Hears(lambda _: False)
    assert isinstance(ledger, MongoLedger)
    relay = MongoRelay(ledger, transport)
    answer = Envelope(id=new_id(), type="mail_data.erased", body=b"{}", occurred_at=now())
    with pytest.raises(Unavailable):
        await relay.emit(answer)
    transport.hears = lambda _: True
    await relay.emit(answer)
    assert transport.heard == [answer]


@only_postgres
async def test_answer_is_emitted_once_however_often_it_is_given(ledger: Ledger) -> None:
    assert isinstance(ledger, PostgresLedger)
    answer = Envelope(id=new_id(), type="mail_data.erased", body=b"{}", occurred_at=now())
    await ledger.emit(answer)
    await ledger.emit(answer)
    assert await relayed(ledger) == [answer]


async def test_erasure_takes_back_what_waits_to_be_told_of_the_person_only(ledger: Ledger, me: str) -> None:
    await bring_to(ledger, me, "sent", order_id="o-1")
    others = await bring_to(ledger, me, "sent", order_id="o-2", recipient="bob@b.test")
    if isinstance(ledger, PostgresLedger):  # a body that jsonb could not read
        document = MailDataExported(export_id="e-1", part=1, parts=1, document='"\\u0000"')
        await ledger.emit(answer_to(Envelope(id=new_id(), type="q", body=b"", occurred_at=now()), document))
    await ledger.erase(account("ann@b.test"), now())
    settled = [sent for sent in await relayed(ledger) if sent.type == MailSettled.type]
    assert [msgspec.json.decode(sent.body, type=MailSettled).event_id for sent in settled] == [others]


async def test_mails_of_an_account(ledger: Ledger, me: str) -> None:
    ids = [await bring_to(ledger, me, wanted) for wanted in ("sent", "pending")]
    await ledger.record(mail(recipient="bob@b.test"))
    found = await ledger.of_account(account("ann@b.test"))
    assert [record.event_id for record, _ in found] == ids
    assert [record.state for record, _ in found] == ["sent", "pending"]
    assert {message for _, message in found} == {mail().message}
    assert await ledger.of_account(account("")) == []


async def test_mails_of_an_account_come_in_pages(ledger: Ledger) -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    new = [mail(created_at=moment) for _ in range(4)]
    new += [mail(event_id=new[0].event_id, kind="order.shipped", created_at=moment), mail(created_at=now())]
    for each in new:
        await ledger.record(each)
    found: list[tuple[str, str]] = []
    after = None
    while page := await ledger.of_account(account("ann@b.test"), after, 2):
        found += [(record.event_id, record.kind) for record, _ in page]
        after = page[-1][0]
    assert sorted(found) == sorted((each.event_id, each.kind) for each in new)
    assert found[-1] == (new[-1].event_id, "order.created")


async def age(ledger: Ledger, days: float) -> None:
    """As if everything in the ledger had happened so many days earlier."""
    if isinstance(ledger, MongoLedger):
        earlier = {"$subtract": ["$updated_at", int(days * 86_400_000)]}
        await ledger._mails.update_many({}, [{"$set": {"updated_at": earlier}}])
    else:
        assert isinstance(ledger, PostgresLedger)
        await ledger._database.execute(
            "update email.mails set updated_at = updated_at - make_interval(secs => $1)", days * 86_400
        )


async def test_the_text_of_a_mail_is_emptied_so_many_days_after_it_was_sent(ledger: Ledger, me: str) -> None:
    more = [await bring_to(ledger, me, "sent") for _ in range(4)]
    old = {await bring_to(ledger, me, wanted): wanted for wanted in STATES}
    await age(ledger, 30.1)
    new = await bring_to(ledger, me, "pending")
    assert await Retention(ledger, 0).sweep() == 0
    assert await Retention(ledger, 31).sweep() == 0
    assert await ledger.empty_sent(30, 3) == 3
    assert await Retention(ledger, 30).sweep() == 2
    assert await ledger.empty_sent(30, 3) == 0
    for event_id, wanted in (old | dict.fromkeys(more, "sent") | {new: "kept"}).items():
        found = await ledger.find(event_id)
        assert found is not None
        record, message = found
        assert message == (b"" if wanted == "sent" else mail().message)
        assert (record.recipient, record.subject) == ("ann@b.test", "Order 1")


async def test_a_mail_without_its_text_stays_recorded_and_is_not_sent_again(ledger: Ledger, me: str) -> None:
    new = await _recorded(ledger)
    await finish(ledger, await take(ledger, me))
    await age(ledger, 2)
    assert await ledger.empty_sent(1, 10) == 1
    assert not await ledger.record(new)
    assert not await ledger.resend(new.event_id)
    assert await state(ledger, new.event_id) == "sent"
    assert [message for _, message in await ledger.of_account(account("ann@b.test"))] == [b""]


STATES = ("claimed", "data", "sent", "retry", "failed", "unknown", "pending")


async def test_erased_mails_keep_nothing_of_a_person_and_never_leave(ledger: Ledger, me: str) -> None:
    ids = {await bring_to(ledger, me, wanted, order_id="o-1"): wanted for wanted in STATES}
    await ledger.record(mail(recipient="bob@b.test", created_at=now()))
    assert await ledger.erase(account("ann@b.test"), now()) == len(STATES)
    assert await ledger.erase(account("ann@b.test"), now()) == await ledger.erase(account(""), now()) == 0
    for event_id, before in ids.items():
        found = await ledger.find(event_id)
        assert found is not None
        record, message = found
        assert (record.recipient, record.subject, record.smtp_reply, message) == ("", "", "", b"")
        assert record.state == ("sent" if before == "sent" else "failed")
        assert not await ledger.resend(event_id)
        assert not await ledger.resolve(event_id, sent=True)
    assert [claim.recipient for claim in await ledger.claim(me, 10)] == ["bob@b.test"]
    assert await relayed(ledger) == []
    assert await ledger.of_account(account("ann@b.test")) == []


async def test_the_last_mail_of_an_account_outlives_the_erasure_until_it_is_sent(ledger: Ledger, me: str) -> None:
    whose, at = account("ann@b.test"), now()
    states = ("retry", "unknown", "sent", "failed", "pending")
    ids = {wanted: await bring_to(ledger, me, wanted, kind="user.erased") for wanted in states}
    await ledger.record(mail(event_id=(other := str(new_id()))))
    assert await ledger.erase(whose, at) == 1
    assert await ledger.erase_farewells() == 2
    assert await ledger.erase_farewells() == 0
    for wanted, event_id in [*ids.items(), ("erased", other)]:
        found = await ledger.find(event_id)
        assert found is not None
        assert bool(found[0].recipient) == (wanted in ("pending", "retry", "unknown"))
        assert bool(found[1]) == bool(found[0].recipient)


async def test_an_erased_mail_does_not_come_again_with_its_event(ledger: Ledger, me: str) -> None:
    new = await _recorded(ledger)
    await ledger.erase(account(new.recipient), new.created_at - timedelta(days=1))
    assert not await ledger.record(new)
    assert not await ledger.record(mail(event_id=new.event_id, recipient="other@b.test"))
    assert await ledger.record(mail(event_id=new.event_id, kind="order.shipped"))
    assert len(await ledger.list("", (), 10)) == 2


async def test_what_happened_before_an_erasure_is_recorded_without_the_person(ledger: Ledger, me: str) -> None:
    at = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    await ledger.erase(account("ann@b.test"), at)
    await ledger.erase(account("ann@b.test"), at - timedelta(days=1))  # delivered late: the later one counts
    before = mail(created_at=at - timedelta(milliseconds=1), order_id="o-1")
    later, others = mail(created_at=at), mail(created_at=before.created_at, recipient="bob@b.test")
    assert not await ledger.record(before)
    assert not await ledger.record(before)
    assert await ledger.record(later)
    assert await ledger.record(others)
    found = await ledger.find(before.event_id)
    assert found is not None
    record, message = found
    assert (record.recipient, record.subject, message) == ("", "", b"")
    assert (record.state, record.error, record.attempts) == ("failed", "erased", 0)
    assert {claim.event_id for claim in await ledger.claim(me, 10)} == {later.event_id, others.event_id}
    assert await relayed(ledger) == []
    assert not await ledger.resend(before.event_id)


async def test_an_erasure_is_forgotten_in_the_end(ledger: Ledger) -> None:
    at = now() - timedelta(days=10)
    await ledger.erase(account("ann@b.test"), at)
    await ledger.forget_old(11)
    assert not await ledger.record(mail(created_at=at - timedelta(days=1)))
    await ledger.forget_old(9)
    assert await ledger.record(mail(created_at=at - timedelta(days=1)))


async def test_a_mail_that_is_erased_while_it_is_under_way_stops_before_the_dot(ledger: Ledger, me: str) -> None:
    event_id = (await _recorded(ledger)).event_id
    claim = await take(ledger, me)
    await ledger.erase(account("ann@b.test"), now())
    with pytest.raises(ClaimLost):
        await ledger.mark_data(claim)
    await _without_effect(ledger, claim, event_id, "failed")


async def test_check_names_the_server(bench: Bench, ledger: Ledger) -> None:
    assert (await ledger.check()).startswith("MongoDB " if bench.is_mongo else "PostgreSQL ")


async def _recorded(ledger: Ledger, **fields: Any) -> NewMail:
    new = mail(**fields)
    assert await ledger.record(new)
    return new


async def _without_effect(ledger: Ledger, old: Claim, event_id: str, expected: str) -> None:
    """Nothing that is done with a lost claim changes the mail."""
    await ledger.mark_sent(old, "250 ok")
    await ledger.mark_retry(old, reply="", error="", pause_s=0)
    await ledger.mark_failed(old, reply="", error="")
    await ledger.mark_doubtful(old, "", "park")
    assert await state(ledger, event_id) == expected


@asynccontextmanager
async def _owner_process(
    url: str, *, silent_s: float = 10.0, mails: int = 2
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Another process that holds mails, the first at ``data``; ended at the end."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        OWNER,
        url,
        str(silent_s),
        str(mails),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_S) == b"ready\n"
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.parametrize("kind", [MongoServer], indirect=True, scope="module")
async def test_mongodb_documents_have_the_names_of_the_contract(bench: Bench, ledger: Ledger, me: str) -> None:
    event_id = (await _recorded(ledger)).event_id
    client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(bench.url)
    try:
        mails = client.get_default_database()["email_logs"]
        document = await mails.find_one({})
        indexes = set(await mails.index_information())
        senders = await client.get_default_database()["email_senders"].index_information()
    finally:
        client.close()
    assert document is not None
    assert document["_id"] == f"{event_id}/order.created/ann@b.test"
    contract = "event_id kind order_number recipient subject message_id state attempts smtp_reply error"
    contract += " created_at updated_at"
    assert set(contract.split()) <= set(document)
    assert {"due", "in_hand", "newest", "list", "list_of_state", "of_recipient", "unreported", "kept"} <= indexes
    assert senders["seen_at"]["expireAfterSeconds"] == 3600


@pytest.mark.parametrize("kind", [MongoServer], indirect=True, scope="module")
async def test_mongodb_indexes_of_older_versions_that_no_query_needs_are_dropped(ledger: MongoLedger) -> None:
    mails = ledger._mails
    await mails.drop_indexes()
    await mails.create_index([("state", 1), ("event_id", -1)], name="by_state")
    await mails.create_index([("recipient", 1)], name="by_recipient")
    await mails.create_index([("note", 1)], name="an_operators_own")
    await ledger.prepare()
    await ledger.prepare()
    names = set(await mails.index_information())
    assert not {"by_state", "by_recipient"} & names
    assert {"an_operators_own", "list_of_state", "of_recipient"} <= names


@pytest.mark.parametrize("kind", [MongoServer], indirect=True, scope="module")
async def test_mongodb_writes_are_journaled_by_a_majority_in_the_database_of_the_uri(bench: Bench) -> None:
    async with open_ledger(bench.url) as named, open_ledger(f"{bench.server.url}&w=0&journal=false") as unnamed:
        assert [ledger._mails.database.name for ledger in (named, unnamed)] == [
            bench.url.rpartition("/")[2].partition("?")[0],
            "purveyor",
        ]
        for ledger in (named, unnamed):
            assert ledger._mails.write_concern.document == {"w": "majority", "j": True}


async def test_mongodb_away_at_start_is_named_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_mongo, "STARTUP_TIMEOUT_S", 0.3)
    port = free_port()
    with pytest.raises(ServerAway, match=rf"^MongoDB at 127\.0\.0\.1:{port} does not answer: .*refused") as away:
        async with open_ledger(f"mongodb://me:s%40cret@127.0.0.1:{port}/shop?authSource=admin"):
            raise AssertionError("there is no server")
    assert issubclass(ServerAway, StartupError)
    assert "cret" not in str(away.value)
    assert "\n" not in str(away.value)
    assert len(str(away.value)) < 160


@pytest.mark.parametrize(
    "uri",
    ["127.0.0.1:27017", "http://127.0.0.1", "mongodb://", "mongodb://me:sec/ret@127.0.0.1/x",
     "mongodb://me:sec@ret@127.0.0.1", "mongodb://127.0.0.1:port", "mongodb://127.0.0.1/a%20b"],
)  # fmt: skip
async def test_a_bad_mongodb_uri_is_named_without_its_password(uri: str) -> None:
    with pytest.raises(ConfigError, match=r"^MONGODB_URI: .*mongodb\+srv://") as refused:
        async with open_ledger(uri):
            raise AssertionError("opened")
    assert "sec" not in str(refused.value)
