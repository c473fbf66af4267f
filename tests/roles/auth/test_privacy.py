"""Personal data: an export that other roles add to, and an erasure that leaves nothing."""

import asyncio
from typing import Any

import msgspec
import pytest

from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import NotFound, TokenInvalid
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import Undeliverable
from purveyor.kit.ids import new_id
from purveyor.roles.auth.contract import (
    Erasure,
    InvalidCredentials,
    LastAdmin,
    ListErasures,
    Principal,
    RefreshTokenInvalid,
    ResetTokenInvalid,
    UserErased,
    UserExportRequested,
    UserRegistered,
    VerifyToken,
)
from purveyor.roles.auth.model import about
from purveyor.roles.auth.passwords import Passwords
from purveyor.roles.auth.privacy import PersonalExport
from purveyor.roles.email.contract import MailDataErased, MailDataExported
from purveyor.roles.orders.contract import OrderDataErased, OrderDataExported
from roles.auth.samples import HERE, HOME, NEW_PASSWORD, Process, a_user
from roles.auth.test_password_changes import forgotten
from roles.auth.test_sessions import works
from waiting import PATIENCE_S

ENVELOPE = about(a_user(), UserErased(user_id="", user_email=""))


async def send_orders(process: Process, export_id: str, document: Any = (), part: int = 1, parts: int = 1) -> None:
    text = document if isinstance(document, str) else msgspec.json.encode(document).decode()
    event = OrderDataExported(export_id=export_id, part=part, parts=parts, document=text)
    await process.privacy.part_from("orders")(event, ENVELOPE)


async def send_mails(process: Process, export_id: str, document: Any = ()) -> None:
    event = MailDataExported(export_id=export_id, part=1, parts=1, document=msgspec.json.encode(document).decode())
    await process.privacy.part_from("email")(event, ENVELOPE)


async def look(process: Process, who: Principal, user_id: str = "") -> PersonalExport:
    """An export without waiting."""
    return await process.privacy.export(who, user_id or who.user_id, wait_s=0)


async def wish(process: Process, who: Principal) -> str:
    """The id under which the other roles were asked for what they hold."""
    await look(process, who)
    (event,) = await process.events(UserExportRequested, who.user_id)
    return event.export_id


async def test_an_export_holds_what_every_role_holds(here: Process) -> None:
    ada, stranger = await here.somebody(), await here.somebody()
    place = await here.auth.add_address(ada, ada.user_id, HOME, is_default=True)
    await here.auth.add_address(stranger, stranger.user_id, HOME, is_default=True)
    export_id = await wish(here, ada)
    await send_orders(here, export_id, [{"order_number": 1, "total_amount": 59.98}])
    await send_mails(here, export_id, [{"kind": "order.created"}])
    found = await look(here, ada)

    assert found.complete
    assert str(found.user.id) == ada.user_id
    assert list(found.addresses) == [place]
    assert [session.id for session in found.sessions] == [here.tokens.read(ada.token).session_id]
    assert [bytes(order) for order in found.documents["orders"]] == [b'{"order_number":1,"total_amount":59.98}']
    assert [msgspec.json.decode(mail) for mail in found.documents["email"]] == [{"kind": "order.created"}]
    assert "hash" not in str(found)


async def test_parts_come_in_any_order_and_any_number_of_times(here: Process, neighbour: Process) -> None:
    ada = await here.somebody()
    export_id = await wish(here, ada)
    await send_mails(here, export_id)
    for part in (3, 1, 3):
        await send_orders(neighbour, export_id, [part, part * 10], part, 3)
        assert not (await look(here, ada)).complete
    await send_orders(here, export_id, ["another"], 1, 3)
    await send_orders(here, export_id, [2, 20], 2, 3)
    found = await look(neighbour, ada)

    assert found.complete
    assert [msgspec.json.decode(order) for order in found.documents["orders"]] == [1, 10, 2, 20, 3, 30]


async def test_the_call_waits_for_what_is_on_its_way(here: Process, neighbour: Process) -> None:
    ada = await here.somebody()
    waiting = asyncio.create_task(here.privacy.export(ada, ada.user_id, wait_s=30))
    while not (events := await here.events(UserExportRequested, ada.user_id)):
        await asyncio.sleep(0.02)
    await send_orders(neighbour, events[0].export_id)
    await send_mails(neighbour, events[0].export_id)
    async with asyncio.timeout(PATIENCE_S):
        found = await waiting

    assert found.complete


async def test_few_wait_at_a_time_and_one_for_each_person(here: Process) -> None:
    """Whoever asks a hundred times takes one place; with many people waiting the next one is answered at once."""
    people = [await here.somebody() for _ in range(12)]
    calls = [(who, asyncio.create_task(here.privacy.export(who, who.user_id, wait_s=3600))) for who in people * 3]
    try:
        async with asyncio.timeout(PATIENCE_S):
            while sum(call.done() for _, call in calls) < 28:
                await asyncio.sleep(0.02)
        await asyncio.sleep(0.5)
        still = [who.user_id for who, call in calls if not call.done()]
        assert len(still) == len(set(still)) == 8
    finally:
        for _, call in calls:
            call.cancel()
        await asyncio.gather(*(call for _, call in calls), return_exceptions=True)


async def test_a_process_that_drains_waits_for_nobody(database: Database, passwords: Passwords) -> None:
    process = Process(database, passwords, stopping=lambda: True)
    ada = await process.somebody()
    async with asyncio.timeout(PATIENCE_S):
        assert not (await process.privacy.export(ada, ada.user_id, wait_s=3600)).complete


async def test_asking_again_within_the_hour_goes_on_with_the_same(here: Process, neighbour: Process) -> None:
    ada = await here.somebody()
    asked = await asyncio.gather(*(look(process, ada) for process in (here, neighbour) * 5))
    assert len({found.requested_at for found in asked}) == 1
    export_id = await wish(here, ada)
    await send_orders(here, export_id)
    await send_mails(here, export_id)
    assert (await look(here, ada)).complete
    await here.database.execute(
        "update auth.exports set requested_at = requested_at - interval '61 minutes' where id = $1", export_id
    )
    again = await look(here, ada)

    assert not again.complete
    assert len(await here.events(UserExportRequested, ada.user_id)) == 2
    assert await here.stores.data.purge() == 1
    await send_orders(here, export_id, ["late"])
    assert (
        await here.database.fetchval("select count(*) from auth.export_parts where export_id = $1", export_id) == 0
    )


@pytest.mark.parametrize(
    ("document", "part", "parts"),
    [
        ("no JSON", 1, 1),
        ('{"an": "object"}', 1, 1),
        ("[" * 100_000, 1, 1),
        ("[]", 0, 1),
        ("[]", 2, 1),
        ("[]", -1, 1),
    ],
)
async def test_a_part_that_makes_no_sense_is_refused_for_good(
    here: Process, document: str, part: int, parts: int
) -> None:
    export_id = await wish(here, await here.somebody())

    with pytest.raises(Undeliverable):
        await send_orders(here, export_id, document, part, parts)
    with pytest.raises(Undeliverable):
        await send_orders(here, "no id")


async def test_only_oneself_and_admins_take_or_erase_a_persons_data(here: Process) -> None:
    ada = await here.somebody()
    details = set()
    for caller in (await here.somebody(), await here.somebody("staff")):
        for user_id in (ada.user_id, str(new_id()), "1"):
            for use in (here.privacy.export, here.privacy.erase):
                with pytest.raises(NotFound) as refusal:
                    await use(caller, user_id)
                details.add(refusal.value.detail)
    assert len(details) == 1
    assert await here.events(UserExportRequested, ada.user_id) == []
    admin = await here.somebody("admin")

    assert str((await look(here, admin, ada.user_id)).user.id) == ada.user_id
    await here.privacy.erase(admin, ada.user_id.upper())
    for use in (here.privacy.export, here.privacy.erase):
        with pytest.raises(NotFound):
            await use(admin, ada.user_id)


async def rows_about(database: Database, user_id: str, email: str) -> dict[str, int]:
    """In how many rows of each table a person's id or address stands."""
    tables = await database.fetch("select tablename from pg_tables where schemaname = 'auth'")
    found = {}
    for (table,) in tables:
        count = await database.fetchval(
            f"""
            select count(*) from auth.{table} t where strpos(t::text, $1) > 0 or strpos(t::text, $2) > 0
                or strpos(t::text, encode($2::bytea, 'hex')) > 0""",
            user_id,
            email,
        )
        if count:
            found[table] = count
    return found


async def test_an_erasure_leaves_nothing_of_the_person_but_the_id(here: Process, neighbour: Process) -> None:
    user = await here.registered()
    pair, ada = await here.logged_in(user), await here.signed_in(user)
    await here.auth.add_address(ada, ada.user_id, HOME, is_default=True)
    token = await forgotten(here, user)
    await send_orders(here, await wish(here, ada), [user.email])
    before = await rows_about(here.database, ada.user_id, user.email)
    woken = here.wakes.count
    await here.privacy.erase(ada, ada.user_id)

    assert {"users", "addresses", "sessions", "outbox", "exports", "export_parts"} <= set(before)
    after = await rows_about(here.database, ada.user_id, user.email)
    assert after == {"erasures": 1, "outbox": 1, "revocations": 1}
    assert await here.events(UserErased, user.id) == [
        UserErased(user_id=ada.user_id, user_email=user.email, user_name=user.name)
    ]
    assert await here.events(UserRegistered, user.id) == []
    assert here.wakes.count == woken + 1
    await neighbour.revocations.sync()
    for process in (here, neighbour):
        assert not await works(process, pair)
        with pytest.raises(TokenInvalid):
            await process.sessions.verify(VerifyToken(token=ada.token))
    with pytest.raises(RefreshTokenInvalid):
        await here.sessions.refresh(pair.refresh_token)
    with pytest.raises(ResetTokenInvalid):
        await here.changes.reset(token, NEW_PASSWORD, HERE)
    with pytest.raises(InvalidCredentials):
        await here.logged_in(user)
    assert await here.logged_in(await here.registered(email=user.email)), "the address is free again"


async def test_a_log_in_during_an_erasure_opens_nothing(here: Process) -> None:
    for _ in range(10):
        user = await here.registered()
        ada = await here.signed_in(user)
        pair, _ = await asyncio.gather(
            here.logged_in(user), here.privacy.erase(ada, ada.user_id), return_exceptions=True
        )

        assert isinstance(pair, InvalidCredentials) or not await works(here, pair)
        assert await rows_about(here.database, ada.user_id, user.email) == {
            "erasures": 1,
            "outbox": 1,
            "revocations": 1,
        }


async def test_an_erasure_is_complete_when_every_role_has_said_so(here: Process, neighbour: Process) -> None:
    ada = await here.somebody()
    await here.privacy.erase(ada, ada.user_id)

    async def record(*, unfinished: bool) -> Erasure | None:
        found = await here.privacy.erasures(ListErasures(unfinished=unfinished, limit=100))
        return next((one for one in found.erasures if one.user_id == ada.user_id), None)

    open_record = await record(unfinished=True)
    assert open_record is not None
    assert open_record.answers == ()
    await here.privacy.erased_by("orders")(OrderDataErased(user_id=ada.user_id), ENVELOPE)
    half = await record(unfinished=True)
    assert half is not None
    assert [answer.role for answer in half.answers] == ["orders"]
    for process in (here, neighbour):
        await process.privacy.erased_by("email")(MailDataErased(user_id=ada.user_id), ENVELOPE)
    await neighbour.privacy.erased_by("orders")(OrderDataErased(user_id=ada.user_id), ENVELOPE)

    assert await record(unfinished=True) is None
    whole = await record(unfinished=False)
    assert whole is not None
    assert [answer.role for answer in whole.answers] == ["email", "orders"]
    assert whole.answers[1] == half.answers[0], "the first time counts"
    await here.privacy.erased_by("orders")(OrderDataErased(user_id=str(new_id())), ENVELOPE)
    with pytest.raises(Undeliverable):
        await here.privacy.erased_by("orders")(OrderDataErased(user_id="1"), ENVELOPE)


async def test_the_last_admin_cannot_leave(here: Process) -> None:
    await here.database.execute("update auth.users set access = 'customer'")
    admin = await here.somebody("admin")
    with pytest.raises(LastAdmin):
        await here.privacy.erase(admin, admin.user_id)
    other = await here.somebody("admin")
    outcomes = await asyncio.gather(
        here.privacy.erase(admin, other.user_id), here.privacy.erase(other, admin.user_id), return_exceptions=True
    )

    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["LastAdmin", "NoneType"]


async def test_an_event_in_a_relays_hand_holds_up_no_erasure(here: Process) -> None:
    ada = await here.somebody()
    async with here.database.transaction() as relay:
        await relay.execute("select id from auth.outbox where subject = $1 for update", ada.user_id)
        await here.privacy.erase(ada, ada.user_id)

    assert len(await here.events(UserErased, ada.user_id)) == 1


def test_the_envelope_of_an_event_says_what_it_is_about() -> None:
    user = a_user()
    envelope = about(user, UserErased(user_id=str(user.id), user_email=user.email))

    assert isinstance(envelope, Envelope)
    assert (envelope.type, envelope.subject, envelope.language) == ("user.erased", str(user.id), "de")
