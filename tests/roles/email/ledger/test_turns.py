"""When a mail is sent: after the earlier ones about its order, and within the quota of its mailbox."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from purveyor.kit.clock import now
from purveyor.roles.email import turns
from purveyor.roles.email.contract import SUPERSEDED, MailRecord
from purveyor.roles.email.ledger import postgres as ledger_postgres
from purveyor.roles.email.ledger.mongo import MongoLedger
from purveyor.roles.email.ledger.postgres import PostgresLedger
from purveyor.roles.email.ports import Account, Claim, Ledger, NewMail
from roles.email.ledger.support import account, finish, mail, only_postgres, state
from waiting import until

CREATED, CONFIRMED, SHIPPED = "order.created", "order.confirmed", "order.shipped"
DELIVERED, CANCELLED = "order.delivered", "order.cancelled"


def about(kind: str, sequence: int, order_id: str = "o-1", **fields: object) -> NewMail:
    return mail(kind=kind, sequence=sequence, order_id=order_id, **fields)


async def recorded(ledger: Ledger, *mails: NewMail) -> Sequence[NewMail]:
    for each in mails:
        await ledger.record(each)
    return mails


async def claimed(ledger: Ledger, me: str) -> list[str]:
    return sorted(claim.kind for claim in await ledger.claim(me, 10))


async def one(ledger: Ledger, me: str) -> Claim:
    """The only claim, as soon as there is one: a mail that waited is due a moment later in MongoDB."""
    (claim,) = await until(lambda: ledger.claim(me, 10))
    return claim


async def record_of(ledger: Ledger, new: NewMail) -> MailRecord:
    found = await ledger.find(new.event_id)
    assert found is not None
    return found[0]


async def earlier_by(ledger: Ledger, back: timedelta) -> None:
    """As if everything in the ledger had happened so much earlier."""
    if isinstance(ledger, MongoLedger):
        ms = int(back.total_seconds() * 1000)
        times = {name: {"$subtract": [f"${name}", ms]} for name in ("updated_at", "next_attempt_at")}
        await ledger._mails.update_many({}, [{"$set": times}])
        async for quota in ledger._quotas.find({}):
            values = {"taken": [at - back for at in quota["taken"]], "last": quota["last"] - back}
            await ledger._quotas.update_one({"_id": quota["_id"]}, {"$set": values})
        return
    assert isinstance(ledger, PostgresLedger)
    await ledger._database.execute(
        "update email.mails set updated_at = updated_at - $1::interval, next_attempt_at = next_attempt_at - $1",
        back,
    )
    await ledger._database.execute(
        "update email.quotas set taken = (select array_agg(at - $1::interval order by at) from unnest(taken) at)",
        back,
    )


async def test_a_later_mail_waits_for_the_earlier_ones_of_its_order_only(ledger: Ledger, me: str) -> None:
    await recorded(ledger, about(CANCELLED, 3), about(CREATED, 1), about(CONFIRMED, 1, "o-2"), mail(kind=SHIPPED))
    first = {claim.kind: claim for claim in await ledger.claim(me, 10)}
    assert sorted(first) == [CONFIRMED, CREATED, SHIPPED]
    assert await claimed(ledger, me) == []
    await ledger.mark_retry(first[CREATED], reply="450 later", error="not sent", pause_s=0)
    again = await one(ledger, me)
    assert again.kind == CREATED
    await finish(ledger, again)
    assert (await one(ledger, me)).kind == CANCELLED


@pytest.mark.parametrize("outcome", ["failed", "unknown"])
async def test_a_mail_that_failed_or_is_parked_holds_back_none(ledger: Ledger, me: str, outcome: str) -> None:
    await recorded(ledger, about(CREATED, 1), about(CANCELLED, 2))
    claim = await one(ledger, me)
    if outcome == "failed":
        await ledger.mark_failed(claim, reply="550 no", error="refused by the server")
    else:
        await ledger.mark_data(claim)
        await ledger.mark_doubtful(claim, "cut", "park")
    assert (await one(ledger, me)).kind == CANCELLED


async def test_mails_to_another_recipient_hold_back_none(ledger: Ledger, me: str) -> None:
    await recorded(ledger, about(CREATED, 1), about(CREATED, 1, recipient="shop@b.test"))
    claims = {claim.recipient: claim for claim in await ledger.claim(me, 10)}
    await recorded(ledger, about(CONFIRMED, 2))
    await finish(ledger, claims["ann@b.test"])
    assert (await one(ledger, me)).kind == CONFIRMED


async def test_later_mails_wait_for_the_first_to_be_recorded_but_not_for_ever(ledger: Ledger, me: str) -> None:
    await recorded(ledger, about(CANCELLED, 2))
    assert await claimed(ledger, me) == []
    await earlier_by(ledger, timedelta(seconds=turns.FIRST_WITHIN_S + 1))
    assert (await one(ledger, me)).kind == CANCELLED


async def test_a_first_mail_of_an_older_version_counts(ledger: Ledger, me: str) -> None:
    await recorded(ledger, mail(order_id="o-1"))
    await finish(ledger, await one(ledger, me))
    await recorded(ledger, about(SHIPPED, 3))
    assert (await one(ledger, me)).kind == SHIPPED


@pytest.mark.parametrize(
    ("earlier", "later"),
    [(CONFIRMED, SHIPPED), (CONFIRMED, DELIVERED), (CONFIRMED, CANCELLED), (SHIPPED, DELIVERED)],
)
async def test_a_waiting_mail_that_a_later_one_makes_pointless_is_dropped(
    ledger: Ledger, me: str, earlier: str, later: str
) -> None:
    await recorded(ledger, about(CREATED, 1))
    await finish(ledger, await one(ledger, me))
    await recorded(ledger, about(earlier, 2))
    await ledger.mark_retry(await one(ledger, me), reply="450 later", error="not sent", pause_s=900)
    await recorded(ledger, about(later, 3))
    claim = await one(ledger, me)
    assert (claim.kind, claim.superseded_by) == (earlier, later)
    await ledger.mark_failed(claim, reply="", error=SUPERSEDED + later)
    claim = await one(ledger, me)
    assert (claim.kind, claim.superseded_by) == (later, "")


async def test_mails_of_steps_that_follow_quickly_are_all_sent(ledger: Ledger, me: str) -> None:
    steps = (CREATED, CONFIRMED, SHIPPED, DELIVERED)
    await recorded(ledger, *(about(kind, place) for place, kind in enumerate(steps, 1)))
    for kind in steps:
        claim = await one(ledger, me)
        assert (claim.kind, claim.superseded_by) == (kind, "")
        await finish(ledger, claim)


async def test_a_later_mail_waits_for_one_whose_event_comes_after_it(ledger: Ledger, me: str) -> None:
    await recorded(ledger, about(CREATED, 1))
    await finish(ledger, await one(ledger, me))
    await recorded(ledger, about(SHIPPED, 3))
    assert await claimed(ledger, me) == []
    await recorded(ledger, about(CONFIRMED, 2))
    assert (await one(ledger, me)).kind == CONFIRMED


async def test_a_pointless_mail_that_comes_late_is_dropped_too(ledger: Ledger, me: str) -> None:
    await recorded(ledger, about(CREATED, 1))
    await finish(ledger, await one(ledger, me))
    await recorded(ledger, about(CANCELLED, 3))
    await finish(ledger, await one(ledger, me))
    await recorded(ledger, about(CONFIRMED, 2))
    assert (await one(ledger, me)).superseded_by == CANCELLED


async def test_the_first_mail_and_what_an_operator_resends_are_never_dropped(ledger: Ledger, me: str) -> None:
    first, confirmed, cancelled = await recorded(
        ledger, about(CREATED, 1), about(CONFIRMED, 2), about(CANCELLED, 3)
    )
    claim = await one(ledger, me)
    assert (claim.event_id, claim.superseded_by) == (first.event_id, "")
    await finish(ledger, claim)
    dropped = await one(ledger, me)
    await ledger.mark_failed(dropped, reply="", error=SUPERSEDED + CANCELLED)
    assert await ledger.resend(confirmed.event_id)
    claims = {claim.event_id: claim for claim in await ledger.claim(me, 10)}
    assert claims[confirmed.event_id].superseded_by == ""
    assert await state(ledger, cancelled.event_id) in {"claimed", "pending"}


@only_postgres
async def test_a_claim_reads_only_the_mails_of_the_orders_that_are_due(ledger: PostgresLedger) -> None:
    for _ in range(4):
        await ledger._database.execute(
            """
            insert into email.mails
                (event_id, kind, recipient, subject, message_id, message, created_at, state, order_id, sequence)
            select gen_random_uuid(), 'order.created', 'ann@b.test', '', '', 'x', now(), 'sent',
                gen_random_uuid()::text, 1
            from generate_series(1, 1000) n"""
        )
    await ledger._database.execute("analyze email.mails")
    claim = ledger_postgres._CLAIM.replace("$1", "1").replace("$2", "8")
    plan = "\n".join(row[0] for row in await ledger._database.fetch(f"explain {claim}"))
    assert "mails_of_order" in plan
    assert "mails_due" in plan
    assert "Seq Scan" not in plan


def unconfirmed(number: int = 1, mailbox: str = "m-1") -> NewMail:
    return mail(number, mailbox=mailbox)


async def test_an_unconfirmed_mailbox_gets_five_mails_an_hour_and_the_others_later(
    ledger: Ledger, me: str
) -> None:
    new = await recorded(ledger, *map(unconfirmed, range(7)), unconfirmed(8, "m-2"), mail(9), mail(10))
    claims: list[Claim] = []
    while found := await ledger.claim(me, 4):
        claims += found
    assert len(claims) == turns.UNCONFIRMED.quota + 3
    held = [
        found
        for found in await ledger.list("pending", (), 10)
        if found.error == turns.held_error(turns.UNCONFIRMED)
    ]
    assert len(held) == 2
    assert {found.attempts for found in held} == {0}
    for claim in claims:
        await finish(ledger, claim)
    await earlier_by(ledger, timedelta(minutes=59))
    assert await ledger.claim(me, 10) == []
    await earlier_by(ledger, timedelta(minutes=2))
    assert {claim.event_id for claim in await ledger.claim(me, 10)} == {found.event_id for found in held}
    assert len(new) == len(claims) + len(held)


async def test_an_operator_can_send_a_held_mail_at_once(ledger: Ledger, me: str) -> None:
    new = await recorded(ledger, *map(unconfirmed, range(turns.UNCONFIRMED.quota + 1)))
    claims = await ledger.claim(me, 10)
    (held,) = {each.event_id for each in new} - {claim.event_id for claim in claims}
    assert await ledger.resend(held)
    assert (await one(ledger, me)).event_id == held


async def test_a_confirmed_address_releases_the_mails_of_its_account(ledger: Ledger, me: str) -> None:
    await recorded(ledger, *map(unconfirmed, range(turns.UNCONFIRMED.quota)))
    assert len(await ledger.claim(me, 10)) == turns.UNCONFIRMED.quota
    ann = account("ann@b.test")
    held, foreign, other = await recorded(
        ledger,
        mail(8, mailbox="m-1", recipient=ann.address, user_id=ann.user_id),
        mail(9, mailbox="m-1", recipient=ann.address, user_id=""),
        mail(10, mailbox="m-1", recipient="ann+1@b.test", user_id="another account"),
    )
    assert await ledger.claim(me, 10) == []
    (untried,) = await recorded(ledger, mail(11, mailbox="m-1", recipient=ann.address, user_id=ann.user_id))
    await ledger.release(ann)

    released = {claim.event_id: claim for claim in await ledger.claim(me, 10)}
    assert released.keys() == {held.event_id, untried.event_id}
    for claim in released.values():
        await finish(ledger, claim)
    waiting = await ledger.list("pending", (), 10)
    assert {each.event_id for each in waiting} == {foreign.event_id, other.event_id}


async def test_a_mail_that_was_not_sent_gives_its_quota_back(ledger: Ledger, me: str) -> None:
    await recorded(ledger, unconfirmed())
    for _ in range(turns.UNCONFIRMED.quota + 1):
        claim = await one(ledger, me)
        await ledger.mark_retry(claim, reply="450 later", error="not sent", pause_s=0)
    claim = await one(ledger, me)
    assert claim.attempt == turns.UNCONFIRMED.quota + 2


async def test_the_quota_of_a_mailbox_outlives_the_erasure_of_its_account(ledger: Ledger, me: str) -> None:
    for number in range(turns.UNCONFIRMED.quota):
        await recorded(ledger, unconfirmed(number))
        await finish(ledger, await one(ledger, me))
    await ledger.erase(account("ann@b.test"), now())
    await ledger.forget_old(1)
    await recorded(ledger, unconfirmed(9))
    assert await ledger.claim(me, 10) == []
    await earlier_by(ledger, timedelta(hours=1, minutes=1))
    await ledger.forget_old(1)
    assert len(await ledger.claim(me, 10)) == 1


async def test_a_held_mail_holds_back_the_later_ones_of_its_order(ledger: Ledger, me: str) -> None:
    await recorded(ledger, *map(unconfirmed, range(turns.UNCONFIRMED.quota)))
    assert len(await ledger.claim(me, 10)) == turns.UNCONFIRMED.quota
    await recorded(ledger, about(CREATED, 1, mailbox="m-1"), about(CANCELLED, 2, mailbox="m-1"))
    assert await ledger.claim(me, 10) == []
    await earlier_by(ledger, timedelta(hours=1, minutes=1))
    assert (await one(ledger, me)).kind == CREATED


async def test_the_mails_of_an_account_are_found_by_its_id_not_by_its_address(ledger: Ledger, me: str) -> None:
    foreign = mail(user_id="", order_id="o-9", sequence=1)
    own, old = mail(user_id="u-1", recipient="before@b.test"), mail(order_id="o-2")
    await recorded(ledger, foreign, own, old)
    await _forget_account(ledger, old)
    ann = Account("u-1", "ann@b.test")
    assert {record.event_id for record, _ in await ledger.of_account(ann)} == {own.event_id, old.event_id}
    assert await ledger.erase(ann, now()) == 2
    assert (await record_of(ledger, foreign)).recipient == "ann@b.test"
    assert await ledger.record(mail(user_id="", created_at=now() - timedelta(days=1)))


async def _forget_account(ledger: Ledger, new: NewMail) -> None:
    """As a version recorded it that knew no accounts."""
    if isinstance(ledger, MongoLedger):
        await ledger._mails.update_one({"event_id": new.event_id}, {"$unset": {"user_id": ""}})
    else:
        assert isinstance(ledger, PostgresLedger)
        await ledger._database.execute(
            "update email.mails set user_id = null where event_id = $1::uuid", new.event_id
        )
