"""Mails that a ledger records or marks at the same moment: each by itself, however many share a write."""

import asyncio
from datetime import datetime

import asyncpg  # type: ignore[import-untyped]
import pytest

from purveyor.roles.email.ledger import postgres_writes
from purveyor.roles.email.ports import Claim, ClaimLost, Ledger
from query_plans import kept_plan
from roles.email.ledger.support import Bench, account, finish, mail, only_postgres
from roles.email.ledger.test_ledger import told

pytestmark = pytest.mark.usefixtures("patient")
_MAILS = 8


async def _claimed(ledger: Ledger, owner: str, **fields: object) -> list[Claim]:
    await asyncio.gather(*(ledger.record(mail(number, **fields)) for number in range(_MAILS)))
    return list(await ledger.claim(owner, _MAILS))


async def _states(ledger: Ledger) -> dict[str, str]:
    return {record.event_id: record.state for record in await ledger.list("", (), 100)}


async def _writes(ledger: Ledger) -> set[datetime]:
    """The times of the last changes, which are those of their transactions."""
    return {record.updated_at for record in await ledger.list("", (), 100)}


async def test_each_mail_of_a_group_is_new_or_known(ledger: Ledger) -> None:
    known = [mail(number) for number in range(3)]
    for one in known:
        await ledger.record(one)
    fresh = [mail(number) for number in range(3, 6)]
    answers = await asyncio.gather(*(ledger.record(one) for one in known + fresh + fresh))
    assert answers[:3] == [False] * 3
    assert [sorted(pair) for pair in zip(answers[3:6], answers[6:], strict=True)] == [[False, True]] * 3
    assert len(await _states(ledger)) == 6


async def test_erased_account_is_erased_in_a_group_too(ledger: Ledger) -> None:
    late, other = mail(1), mail(2, recipient="bob@b.test")
    await ledger.erase(account(late.recipient), datetime.max.replace(tzinfo=late.created_at.tzinfo))
    assert list(await asyncio.gather(ledger.record(other), ledger.record(late))) == [True, False]
    records = {record.event_id: record.recipient for record in await ledger.list("", (), 10)}
    assert records == {other.event_id: "bob@b.test", late.event_id: ""}


async def test_lost_claim_fails_alone_in_its_group(ledger: Ledger, me: str) -> None:
    claims = await _claimed(ledger, me)
    lost = claims[3]
    await ledger.mark_failed(lost, reply="550 no", error="refused by the server")
    outcomes = await asyncio.gather(*map(ledger.mark_data, claims), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [
        ClaimLost if claim is lost else type(None) for claim in claims
    ]
    expected = {claim.event_id: "failed" if claim is lost else "data" for claim in claims}
    assert await _states(ledger) == expected


async def test_mails_sent_at_once_are_each_told_once(ledger: Ledger, me: str) -> None:
    claims = await _claimed(ledger, me, order_id="o-1")
    await asyncio.gather(*(finish(ledger, claim) for claim in claims))
    again = await asyncio.gather(*(ledger.mark_sent(claim, "251 later") for claim in claims))
    assert again == [None] * _MAILS
    assert set((await _states(ledger)).values()) == {"sent"}
    events = await told(ledger)
    assert sorted(event.event_id for event in events) == sorted(claim.event_id for claim in claims)
    assert {event.smtp_reply for event in events} == {"250 ok"}
    assert await told(ledger) == []


async def test_answer_for_a_freed_mail_counts_in_a_group_too(ledger: Ledger, me: str) -> None:
    claims = await _claimed(ledger, me, order_id="o-1")
    await asyncio.gather(*map(ledger.mark_data, claims))
    await ledger.mark_doubtful(claims[5], "cut", "resend")
    await asyncio.gather(*(ledger.mark_sent(claim, "250 ok") for claim in claims))
    assert set((await _states(ledger)).values()) == {"sent"}
    told_of = {event.event_id: event.resends for event in await told(ledger)}
    assert told_of == {claim.event_id: int(claim is claims[5]) for claim in claims}


@only_postgres
async def test_waiting_writes_share_a_commit(ledger: Ledger, me: str) -> None:
    await asyncio.gather(*(ledger.record(mail(number)) for number in range(_MAILS)))
    assert len(await _writes(ledger)) == 1
    claims = await ledger.claim(me, _MAILS)
    for mark in (ledger.mark_data, lambda claim: ledger.mark_sent(claim, "250 ok")):
        await asyncio.gather(*map(mark, claims))
        assert len(await _writes(ledger)) == 1


@only_postgres
async def test_mail_that_the_database_refuses_fails_alone(ledger: Ledger) -> None:
    group = [mail(1), mail(2, subject="\x00"), mail(3)]
    first, *outcomes = await asyncio.gather(*map(ledger.record, [mail(0), *group]), return_exceptions=True)
    assert first is True
    assert outcomes[::2] == [True, True]
    assert isinstance(outcomes[1], asyncpg.PostgresError)
    assert len(await _states(ledger)) == 3


@only_postgres
async def test_marked_mails_are_found_by_their_key_however_few_there_are(ledger: Ledger, bench: Bench) -> None:
    connection = await asyncpg.connect(bench.url)
    try:
        for statement in (postgres_writes._MARK_DATA, postgres_writes._MARK_SENT):
            plan = await kept_plan(connection, statement)
            assert "Index Scan using mails_pkey on mails" in plan
            assert "Seq Scan" not in plan
    finally:
        await connection.close()


@only_postgres
async def test_messages_are_not_compressed_by_pglz(ledger: Ledger, bench: Bench) -> None:
    connection = await asyncpg.connect(bench.url)
    try:
        found = await connection.fetchrow(
            """
            select attstorage, attcompression from pg_attribute
            where attrelid = 'email.mails'::regclass and attname = 'message'"""
        )
    finally:
        await connection.close()
    assert tuple(found) in {(b"x", b"l"), (b"e", b"\x00")}, "LZ4, or none where the server has no LZ4"
