"""Live timelines: server-sent events that come at once, go on after a break, and end with their token."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from shop import Customer, EventSource, SentEvent, Shop, problem
from waiting import PATIENCE_S, until

NO_ID = "01a20481-297c-700c-a82d-3d9ac6bc1ffd"


async def taken(source: EventSource, *what: str) -> list[SentEvent]:
    """The next events, until each ``what`` has come."""
    found: list[SentEvent] = []
    async with asyncio.timeout(PATIENCE_S):
        while not set(what) <= {event.event for event in found}:
            found.append(await source.next())
    return found


@pytest.mark.pooled
async def test_what_happens_is_told_while_it_happens(shop: Shop, ada: Customer, staff: Customer) -> None:
    order_id = (await shop.place(ada)).json()["id"]
    async with shop.live(ada, order_id) as mine, shop.live(staff, order_id) as theirs:
        assert mine.answer.headers["content-type"].startswith("text/event-stream")
        assert mine.answer.headers["x-accel-buffering"] == "no"
        assert mine.answer.headers["cache-control"] == "no-store"
        await taken(mine, "placed", "mail_sent")
        await shop.change(staff, order_id, status="confirmed")
        await taken(mine, "confirmed")
        await shop.cancel(ada, order_id, "bought twice")
        told = await taken(theirs, "placed", "mail_sent", "confirmed", "cancelled")
    by_id = {str(entry["id"]): entry for entry in (await shop.timeline(staff, order_id)).json()["entries"]}
    for event in told:
        assert event.data == by_id[event.id]
        assert event.event == event.data["what"]
    assert [int(event.id) for event in told] == sorted({int(event.id) for event in told})
    (confirmed,) = [event for event in told if event.event == "confirmed"]
    assert confirmed.data["by"]["name"] == staff.name


async def test_a_customer_is_told_of_the_shop(shop: Shop, ada: Customer, staff: Customer) -> None:
    order_id = (await shop.place(ada)).json()["id"]
    async with shop.live(ada, order_id) as mine:
        await shop.change(staff, order_id, status="confirmed")
        (confirmed,) = [event for event in await taken(mine, "confirmed") if event.event == "confirmed"]
    assert confirmed.data["by"] == {"kind": "staff", "id": None, "name": "the shop"}


async def test_a_stream_goes_on_where_it_broke_off(shop: Shop, ada: Customer, staff: Customer) -> None:
    order_id = (await shop.place(ada)).json()["id"]
    await shop.happened(ada, order_id, "mail_sent")
    async with shop.live(ada, order_id) as source:
        last = (await taken(source, "mail_sent"))[-1].id
    await shop.change(staff, order_id, status="confirmed")
    async with shop.live(ada, order_id, last_event_id=last) as source:
        assert (await taken(source, "confirmed"))[0].event == "confirmed"
        await shop.cancel(ada, order_id)
        await taken(source, "cancelled")


@pytest.mark.one_shape
@pytest.mark.parametrize("last", ["0", "999999", "9" * 400, "-1", "x", "", "1.0", "\u00b2", "1\t2"])
async def test_an_id_that_was_never_given_tells_everything(shop: Shop, ada: Customer, last: str) -> None:
    order_id = (await shop.place(ada)).json()["id"]
    async with shop.live(ada, order_id, last_event_id=last.encode("latin-1")) as source:
        assert source.answer.status_code == 200
        assert (await source.next()).event == "placed"


@pytest.mark.one_shape
async def test_a_ticket_opens_the_stream_once(shop: Shop, ada: Customer, stranger: Customer) -> None:
    order_id, other = [(await shop.place(ada)).json()["id"] for _ in range(2)]
    problem(await shop.raw("POST", f"/api/orders/{order_id}/live-ticket", stranger), 404, "not-found")
    issued = await shop.raw("POST", f"/api/orders/{order_id}/live-ticket", ada)
    assert (issued.status_code, issued.json()["expires_in"]) == (201, 60)
    ticket = issued.json()["ticket"]
    problem(await shop.raw("GET", f"/api/orders/{other}/live?ticket={ticket}"), 401, "token-invalid")
    problem(await shop.raw("GET", f"/api/orders/{order_id}?ticket={ticket}"), 401, "unauthorized")
    async with shop.live(None, order_id, ticket=ticket) as source:
        assert (await source.next()).event == "placed"
    problem(await shop.raw("GET", f"/api/orders/{order_id}/live?ticket={ticket}"), 401, "token-invalid")


async def test_many_watch_one_order(shop: Shop, ada: Customer, staff: Customer) -> None:
    order_id = (await shop.place(ada)).json()["id"]
    async with AsyncExitStack() as stack:
        sources = [await stack.enter_async_context(shop.live(by, order_id)) for by in (ada, staff) * 4]
        await shop.change(staff, order_id, status="confirmed")
        for told in await asyncio.gather(*(taken(source, "confirmed") for source in sources)):
            assert told[0].event == "placed"


@pytest.mark.one_shape
async def test_a_user_has_ten_streams_and_each_closed_one_is_free_again(shop: Shop, ada: Customer) -> None:
    order_id = (await shop.place(ada)).json()["id"]
    async with AsyncExitStack() as stack:
        for _ in range(10):
            source = await stack.enter_async_context(shop.live(ada, order_id))
            assert source.answer.status_code == 200
        refused = await shop.raw("GET", f"/api/orders/{order_id}/live", ada)
        problem(refused, 429, "too-many-streams")

    async def opens() -> bool:
        async with shop.live(ada, order_id) as source:
            return source.answer.status_code == 200

    await until(opens)


async def test_a_stream_ends_when_its_session_does(shop: Shop, ada: Customer) -> None:
    order_id = (await shop.place(ada)).json()["id"]
    async with shop.live(ada, order_id) as source:
        await source.next()
        assert (await shop.raw("POST", "/logout", ada)).status_code == 204
        async with asyncio.timeout(PATIENCE_S):
            await source.rest()


@pytest.mark.one_shape
async def test_somebody_elses_order_cannot_be_watched(shop: Shop, ada: Customer, stranger: Customer) -> None:
    order_id = (await shop.place(ada)).json()["id"]
    for which in (order_id, NO_ID, "no-id"):
        problem(await shop.raw("GET", f"/api/orders/{which}/live", stranger), 404, "not-found")
    problem(await shop.raw("GET", f"/api/orders/{order_id}/live"), 401, "unauthorized")


@pytest.mark.one_shape
async def test_head_and_options_do_not_wait(shop: Shop, ada: Customer) -> None:
    order_id = (await shop.place(ada)).json()["id"]
    for _ in range(12):  # more than may be open
        head = await shop.raw("HEAD", f"/api/orders/{order_id}/live", ada)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"].startswith("text/event-stream")
    options = await shop.raw("OPTIONS", f"/api/orders/{order_id}/live", ada)
    assert options.status_code == 204
    assert {"GET", "HEAD", "OPTIONS"} == set(options.headers["allow"].replace(" ", "").split(","))
