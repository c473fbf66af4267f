"""Live timelines over the real store: news of other processes, heartbeats, ends, bounds."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import msgspec
import pytest

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database, open_database
from purveyor.kit.errors import NotFound, TokenInvalid, Unavailable
from purveyor.kit.ids import new_id
from purveyor.roles.auth.client import Identity
from purveyor.roles.auth.contract import GetAddress, GetProfile, Principal, VerifiedToken, VerifyToken
from purveyor.roles.orders.contract import TooManyStreams
from purveyor.roles.orders.etag import IfMatch
from purveyor.roles.orders.live import POLL_S, Live, Stream
from purveyor.roles.orders.model import Entry, MailOutcome
from purveyor.roles.orders.service import Changes, OrderChange
from purveyor.roles.orders.store import HistoryStore, OrderStore
from purveyor.roles.orders.store_tickets import PER_USER, LiveTickets
from purveyor.transports.local import LocalAsker
from roles.orders.samples import buyer, home_of_ada, new_order, no_profile
from waiting import PATIENCE_S, until


class Auth:
    """Vouches for tokens until they are revoked or run out; may be away."""

    def __init__(self) -> None:
        self.revoked: set[str] = set()
        self.away = False
        self.expires_at = time.time() + 600

    async def verify(self, ask: VerifyToken) -> VerifiedToken:
        if self.away:
            raise Unavailable
        if ask.token in self.revoked:
            raise TokenInvalid
        return VerifiedToken(user_id=ask.token, email="a@example.com", name="Ada", exp=int(self.expires_at))


class Window:
    """One process: its own pool, its own poller."""

    def __init__(self, database: Database, auth: Auth, **bounds: float) -> None:
        self.store = OrderStore(database)
        self.histories = HistoryStore(database)
        self.stopping = False
        answers = {VerifyToken: auth.verify, GetAddress: home_of_ada, GetProfile: no_profile}
        identity = Identity(LocalAsker(answers, timeout_s=2))
        self.live = Live(self.histories, identity, stopping=lambda: self.stopping, **bounds)  # type: ignore[arg-type]
        self.changes = Changes(self.store, identity, committed=self.live.wake)


@pytest.fixture
def auth() -> Auth:
    return Auth()


@asynccontextmanager
async def process(dsn: str, auth: Auth, **bounds: float) -> AsyncIterator[Window]:
    async with open_database(dsn, application="tests", max_size=5) as database:
        window = Window(database, auth, **bounds)
        polling = asyncio.create_task(window.live.run())
        try:
            yield window
        finally:
            polling.cancel()
            await asyncio.wait({polling})


def signed_in(access: str = "customer") -> Principal:
    who = buyer(access)
    return msgspec.structs.replace(who, token=who.user_id, expires_at=time.time() + 600)


async def placed(window: Window, who: Principal) -> UUID:
    return (await window.store.add(new_order(who))).order_id


class Reader:
    """Reads a stream as the response does."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._entries = stream.entries()

    async def until(self, what: str) -> list[Entry]:
        found: list[Entry] = []
        async with asyncio.timeout(PATIENCE_S):
            while not found or found[-1].what != what:
                if (entry := await anext(self._entries)) is not None:
                    found.append(entry)
        return found

    async def next(self) -> Entry | None:
        async with asyncio.timeout(PATIENCE_S):
            return await anext(self._entries)

    async def ends(self) -> None:
        async with asyncio.timeout(PATIENCE_S):
            async for _ in self._entries:
                continue


async def watch(window: Window, who: Principal, order_id: UUID, last_seen: int = 0) -> Reader:
    return Reader(await window.live.open(who, str(order_id), last_seen))


async def test_another_process_hears_of_it_by_its_poll(dsn: str, auth: Auth) -> None:
    ada, clerk = signed_in(), signed_in("staff")
    async with process(dsn, auth) as here, process(dsn, auth) as there:
        order_id = await placed(here, ada)
        reader = await watch(there, ada, order_id)
        await reader.until("placed")
        await here.changes.change(clerk, str(order_id), OrderChange(status="confirmed"), IfMatch(None))
        assert [entry.what for entry in await reader.until("confirmed")] == ["confirmed"]


async def test_ones_own_commits_are_told_without_waiting_for_the_poll(
    dsn: str, auth: Auth, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("purveyor.roles.orders.live.POLL_S", 3600.0)
    ada, clerk = signed_in(), signed_in("staff")
    async with process(dsn, auth) as window:
        order_id = await placed(window, ada)
        reader = await watch(window, ada, order_id)
        await reader.until("placed")
        await asyncio.sleep(0.3)  # the poller has nothing more to do
        await window.changes.change(clerk, str(order_id), OrderChange(status="confirmed"), IfMatch(None))
        assert (await reader.until("confirmed"))[-1].id == 2


async def test_one_query_serves_all_orders_that_are_watched(dsn: str, auth: Auth) -> None:
    ada = signed_in("staff")
    async with process(dsn, auth, per_user=100) as window:
        asked: list[int] = []
        news = window.histories.news

        async def counting(after: dict[UUID, int]) -> object:
            asked.append(len(after))
            return await news(after)

        window.histories.news = counting  # type: ignore[method-assign, assignment]
        readers = [await watch(window, ada, await placed(window, signed_in())) for _ in range(20)]
        await until(lambda: asked.count(20) >= 4)
        assert set(asked[asked.index(20) :]) == {20}
        for reader in readers:
            reader.stream.close()
        asked.clear()
        await asyncio.sleep(2 * POLL_S)
        assert asked == [], "nobody watches, nobody asks"


async def test_who_comes_late_and_who_comes_back_miss_nothing(dsn: str, auth: Auth) -> None:
    ada = signed_in()
    async with process(dsn, auth) as window:
        order_id = await placed(window, ada)
        first = await watch(window, ada, order_id)
        outcome = MailOutcome(event_id="", kind="k", state="sent", attempts=1, resends=0, smtp_reply="", error="")

        async def write() -> None:
            for number in range(30):
                mail = msgspec.structs.replace(outcome, event_id=f"event {number}")
                await window.histories.add_mail(order_id, mail, now())
                window.live.wake(order_id)

        writing = asyncio.create_task(write())
        seen: list[int] = []
        while len(seen) < 31:
            reader = await watch(window, ada, order_id, last_seen=seen[-1] if seen else 0)
            for _ in range(3):
                if len(seen) < 31 and (entry := await reader.next()) is not None:
                    seen.append(entry.id)
            reader.stream.close()
        await writing
        assert seen == list(range(1, 32))
        told = [entry.id for entry in [await first.next() for _ in range(31)] if entry]
        assert told == seen


async def test_a_quiet_stream_has_a_heartbeat(dsn: str, auth: Auth) -> None:
    ada = signed_in()
    async with process(dsn, auth, heartbeat_s=0.05) as window:
        reader = await watch(window, ada, await placed(window, ada))
        await reader.until("placed")
        assert [await reader.next() for _ in range(3)] == [None, None, None]


async def test_a_stream_ends_when_its_token_is_revoked(dsn: str, auth: Auth) -> None:
    ada = signed_in()
    async with process(dsn, auth) as window:
        reader = await watch(window, ada, await placed(window, ada))
        await reader.until("placed")
        auth.revoked.add(ada.token)
        await reader.ends()


async def test_a_stream_ends_when_its_token_has_run_out(dsn: str, auth: Auth) -> None:
    ada = msgspec.structs.replace(signed_in(), expires_at=time.time() + 2)
    auth.expires_at = ada.expires_at
    async with process(dsn, auth) as window:
        reader = await watch(window, ada, await placed(window, ada))
        await reader.until("placed")
        await reader.ends()
        assert time.time() >= int(ada.expires_at)


async def test_a_stream_outlasts_auth_being_away(dsn: str, auth: Auth) -> None:
    ada = signed_in()
    async with process(dsn, auth, heartbeat_s=0.05) as window:
        order_id = await placed(window, ada)
        reader = await watch(window, ada, order_id)
        await reader.until("placed")
        auth.away = True
        assert [await reader.next() for _ in range(2)] == [None, None]
        await window.changes.cancel(ada, str(order_id), "", None)
        await reader.until("cancelled")


async def test_streams_end_when_the_process_drains(dsn: str, auth: Auth) -> None:
    ada = signed_in()
    async with process(dsn, auth) as window:
        order_id = await placed(window, ada)
        readers = [await watch(window, ada, order_id) for _ in range(3)]
        for reader in readers:
            await reader.until("placed")
        window.stopping = True
        await asyncio.gather(*(reader.ends() for reader in readers))
        with pytest.raises(Unavailable):
            await watch(window, ada, order_id)


async def test_streams_go_on_when_the_poller_is_started_again(dsn: str, auth: Auth) -> None:
    ada = signed_in()
    async with process(dsn, auth) as window:
        order_id = await placed(window, ada)
        before = await watch(window, ada, order_id)
        again = asyncio.create_task(window.live.run())
        await asyncio.sleep(0.2)
        again.cancel()
        await asyncio.wait({again})
        await before.ends()
        after = await watch(window, ada, order_id)
        await window.changes.cancel(ada, str(order_id), "", None)
        await after.until("cancelled")


async def test_a_user_and_a_process_have_so_many_streams(dsn: str, auth: Auth) -> None:
    ada, eve = signed_in(), signed_in()
    async with process(dsn, auth, per_user=2, per_process=3) as window:
        mine, hers = await placed(window, ada), await placed(window, eve)
        readers = [await watch(window, ada, mine) for _ in range(2)]
        with pytest.raises(TooManyStreams) as refusal:
            await watch(window, ada, mine)
        assert int(refusal.value.headers["Retry-After"]) >= 1
        await watch(window, eve, hers)
        with pytest.raises(Unavailable):
            await watch(window, eve, hers)
        for _ in range(3):
            readers[0].stream.close()
        await watch(window, eve, hers)
        with pytest.raises(Unavailable):
            await watch(window, eve, hers)


async def test_who_is_refused_takes_no_place(dsn: str, auth: Auth) -> None:
    ada, eve = signed_in(), signed_in()
    async with process(dsn, auth, per_user=1) as window:
        order_id = await placed(window, ada)
        for which in (str(order_id), str(new_id()), "no id"):
            for _ in range(3):
                with pytest.raises(NotFound):
                    await window.live.open(eve, which, 0)
        await (await watch(window, eve, await placed(window, eve))).until("placed")


@pytest.mark.parametrize(
    ("networks", "opened"),
    [
        (["203.0.113.7"] * 4, 2),
        (["203.0.113.7", "203.0.113.8"] * 2, 4),
        ([f"2001:db8:1:{number}::/64" for number in range(6)], 4),
    ],
)
async def test_one_network_does_not_take_all_places(
    dsn: str, auth: Auth, networks: list[str], opened: int
) -> None:
    async with process(dsn, auth, per_network=2) as window:

        async def another(network: str) -> Stream:
            who = signed_in()
            return await window.live.open(who, str(await placed(window, who)), 0, network)

        streams = [await another(network) for network in networks[:opened]]
        for network in networks[opened:]:
            with pytest.raises(TooManyStreams, match="network"):
                await another(network)
        streams[0].close()
        streams.append(await another(networks[0]))
        for stream in streams:
            stream.close()


async def test_a_ticket_is_good_once_for_one_order_and_a_minute(dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_database(dsn, application="tests", max_size=5) as database:
        tickets, ada = LiveTickets(database), signed_in()
        order, other = new_id(), new_id()
        ticket = await tickets.issue(ada, order)
        for wrong in (ticket[:-1], ticket[:-1] + ("A" if ticket[-1] != "A" else "B"), "", "\x00" * 43):
            with pytest.raises(TokenInvalid):
                await tickets.redeem(wrong, str(order))
        with pytest.raises(TokenInvalid):
            await tickets.redeem(ticket, str(other))
        assert await tickets.redeem(ticket, str(order)) == ada.token
        with pytest.raises(TokenInvalid):
            await tickets.redeem(ticket, str(order))

        stored = await tickets.issue(ada, order)
        (row,) = await database.fetch("select * from orders.live_tickets where user_id = $1", ada.user_id)
        assert ada.token.encode() not in row["token"]
        assert stored.encode() not in row["digest"]
        monkeypatch.setattr("purveyor.roles.orders.store_tickets.LIFETIME_S", -1)
        late = await tickets.issue(ada, order)
        with pytest.raises(TokenInvalid):
            await tickets.redeem(late, str(order))


async def test_unused_tickets_of_a_user_are_bounded(dsn: str) -> None:
    async with open_database(dsn, application="tests", max_size=5) as database:
        tickets, ada, order = LiveTickets(database), signed_in(), new_id()
        first = await tickets.issue(ada, order)
        for _ in range(PER_USER):
            last = await tickets.issue(ada, order)
        kept = await database.fetchval("select count(*) from orders.live_tickets where user_id = $1", ada.user_id)
        assert kept == PER_USER
        with pytest.raises(TokenInvalid):
            await tickets.redeem(first, str(order))
        assert await tickets.redeem(last, str(order)) == ada.token
