"""The mail ledger in MongoDB, collection ``email_logs``. All times are by the server's clock."""

import asyncio
import contextlib
import logging
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pymongo
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase
from pymongo.errors import (
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidName,
    InvalidURI,
    OperationFailure,
    PyMongoError,
    WriteConcernError,
)

from purveyor.kit.errors import ConfigError, ServerAway, StartupError, Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import Publisher
from purveyor.kit.ids import new_id
from purveyor.kit.limits.memory import Rate
from purveyor.kit.metrics import MAILS
from purveyor.kit.poll import MORE, Poll
from purveyor.kit.retry import RetrySchedule
from purveyor.roles.email.contract import MailRecord
from purveyor.roles.email.events import settled_event
from purveyor.roles.email.ledger.mongo_documents import (
    DUE,
    IN_HAND,
    PLACE,
    SETTLED,
    SHOWN,
    UNSENT,
    WITH_MESSAGE,
    WITH_RECIPIENT,
    WITH_TEXT,
    Change,
    Condition,
    Document,
    change,
    claim_of,
    doubt,
    erased_document,
    erased_key,
    erasure,
    following,
    held_or_freed,
    key,
    mark_reported,
    new_document,
    of_account,
    place_of,
    put_back,
    record_of,
    report_of,
    shown,
    unsent,
)
from purveyor.roles.email.ports import Account, Claim, ClaimLost, DoubtPolicy, Lease, NewMail, Report
from purveyor.roles.email.privacy import digest_of
from purveyor.roles.email.turns import (
    FAREWELL,
    RELEASED,
    UNCONFIRMED,
    Place,
    Turn,
    held_error,
    superseded_kinds,
    turn_of,
)

log = logging.getLogger(__name__)

_BUILD_TIMEOUT_S = 600.0
_INDEX_NOT_FOUND = 27
_MAILS = (
    pymongo.IndexModel([("state", 1), ("next_attempt_at", 1)], name="due"),
    pymongo.IndexModel([("state", 1), ("owner", 1)], name="in_hand"),
    pymongo.IndexModel([("event_id", -1)], name="newest"),  # the mails of an event; the name is historical
    pymongo.IndexModel([("created_at", -1), ("event_id", -1)], name="list"),
    pymongo.IndexModel([("state", 1), ("created_at", -1), ("event_id", -1)], name="list_of_state"),
    pymongo.IndexModel([("recipient", 1), ("created_at", 1), ("_id", 1)], name="of_recipient"),
    pymongo.IndexModel([("user_id", 1), ("created_at", 1), ("_id", 1)], name="of_user"),
    pymongo.IndexModel([("order_id", 1), ("sequence", 1)], name="of_order"),
    pymongo.IndexModel([("updated_at", 1)], name="unreported", partialFilterExpression={"unreported": True}),
    pymongo.IndexModel(
        [("kind", 1), ("state", 1)], name="farewells", partialFilterExpression={"kind": FAREWELL, **WITH_RECIPIENT}
    ),
    pymongo.IndexModel(
        [("state", 1), ("updated_at", 1)], name="kept", partialFilterExpression={"message": {"$gt": b""}}
    ),
)
_OBSOLETE = {"by_state", "by_recipient"}
"""Created by older versions."""
_SENDERS = (pymongo.IndexModel([("seen_at", 1)], name="seen_at", expireAfterSeconds=3600),)
OPERATION_TIMEOUT_S = 1.0
"""Seconds for one operation on the server. A method may need several and has twice that."""
URI_EXPECTED = (
    "MONGODB_URI: expected mongodb:// or mongodb+srv://[user:password@]host[:port][/database], "
    "with special characters in user and password percent-encoded."
)
LOST = (ConnectionFailure, ExecutionTimeout, WriteConcernError, OSError, TimeoutError)


@asynccontextmanager
async def bounded() -> AsyncIterator[None]:
    """Set a deadline, and raise ``Unavailable`` when the server is lost."""
    try:
        async with asyncio.timeout(2 * OPERATION_TIMEOUT_S):
            yield
    except LOST as lost:
        raise Unavailable("The mail ledger does not answer.") from lost


def address_of(uri: str) -> str:
    """Return the hosts and ports of a valid URI."""
    return re.split(r"[/?]", uri.partition("://")[2])[0].rpartition("@")[2]


def short(error: Exception) -> str:
    """Return an error's message without the states of all servers that the driver appends."""
    return re.split(r", Timeout: | \(configured timeouts: |, full error: ", str(error))[0]


_ERASE_BATCH = 25
_TURN_PAUSE = timedelta(seconds=1)
"""Minimum wait of an email that is not yet due."""
BEAT_S = 1.0
DEAD_AFTER_S = 4.0


class MongoOwner:
    """``Owner`` that is alive while its last heartbeat is recent."""

    def __init__(self, senders: Any) -> None:
        self.name = str(new_id())
        self._senders = senders
        self._seen_at = 0.0

    def is_alive(self) -> bool:
        return asyncio.get_running_loop().time() - self._seen_at < DEAD_AFTER_S

    async def beat(self) -> None:
        """Write a heartbeat. Raises ``Unavailable``."""
        began = asyncio.get_running_loop().time()  # before the write, so that we never count as alive too long
        async with bounded():
            await self._senders.update_one({"_id": self.name}, {"$currentDate": {"seen_at": True}}, upsert=True)
        self._seen_at = began

    async def keep_beating(self) -> None:
        while True:
            await asyncio.sleep(BEAT_S)
            with contextlib.suppress(Unavailable):  # is_alive() then becomes false
                await self.beat()

    async def leave(self) -> None:
        """Let the others take over at once."""
        with contextlib.suppress(Unavailable):  # they then wait until the last heartbeat is old
            async with bounded():
                await self._senders.delete_one({"_id": self.name})


STARTUP_TIMEOUT_S = 5.0


class MongoLedger:
    """``Ledger`` in MongoDB.

    ``email_erased`` holds digests of erased accounts, ``email_quotas`` the last mails to unconfirmed mailboxes.
    """

    def __init__(
        self, database: AsyncIOMotorDatabase[Document], address: str, *, quota: Rate = UNCONFIRMED
    ) -> None:
        """``address`` is the server's, without credentials. ``quota`` limits mails to an unconfirmed mailbox."""
        self._quota = quota
        self._window = timedelta(seconds=quota.window_s)
        self.server = f"MongoDB at {address}"
        self._address = address
        self.database = database
        self._mails = database["email_logs"]
        self._senders = database["email_senders"]
        self._erased = database["email_erased"]
        self._quotas = database["email_quotas"]

    async def prepare(self) -> None:
        """Create missing indexes and drop obsolete ones. Building one for millions of mails may take minutes."""
        with pymongo.timeout(STARTUP_TIMEOUT_S):
            known = await self._mails.index_information()
            await self._senders.create_indexes(list(_SENDERS))
        missing = [index for index in _MAILS if index.document["name"] not in known]
        with pymongo.timeout(_BUILD_TIMEOUT_S):
            if missing:
                await self._mails.create_indexes(missing)
            for name in known.keys() & _OBSOLETE:
                try:
                    await self._mails.drop_index(name)
                except OperationFailure as error:
                    if error.code != _INDEX_NOT_FOUND:  # another starting process has dropped it
                        raise

    async def record(self, mail: NewMail) -> bool:
        async with bounded():
            if await self._mails.find_one({"_id": erased_key(mail)}, {"_id": 1}) is not None:
                return False
            erased = digest_of(mail.user_id or mail.recipient)
            erasure_after = {"_id": erased, "erased_at": {"$gt": mail.created_at}}
            is_erased = await self._erased.find_one(erasure_after, {"_id": 1}) is not None
            document = new_document(mail, await self._now())
            try:
                await self._mails.insert_one(erased_document(document) if is_erased else document)
            except DuplicateKeyError:
                return False
            if mail.sequence and (pointless := superseded_kinds(mail.kind)):
                await self._hurry(mail, pointless)
            return not is_erased

    async def _hurry(self, later: NewMail, kinds: Sequence[str]) -> None:
        """Make the waiting mails due that a later one makes pointless, so that ``claim`` finds out."""
        waiting = {
            "order_id": later.order_id,
            "sequence": {"$gt": 0, "$lt": later.sequence},
            "recipient": later.recipient,
            "kind": {"$in": [*kinds]},
            "state": DUE,
            "resends": 0,
        }
        await self._mails.update_many(waiting, {"$min": {"next_attempt_at": await self._now()}})

    @asynccontextmanager
    async def ownership(self) -> AsyncIterator[MongoOwner]:
        owner = MongoOwner(self._senders)
        await owner.beat()
        beating = asyncio.create_task(owner.keep_beating(), name="mail sender's heartbeat")
        try:
            yield owner
        finally:
            beating.cancel()
            await asyncio.gather(beating, return_exceptions=True)
            await owner.leave()

    async def gone(self) -> Sequence[str]:
        async with bounded():
            # Read the owners before the living senders, or a sender that starts in between would count as dead.
            owners = await self._mails.distinct("owner", {"state": IN_HAND})
            if not owners:
                return ()
            recent = {"$gt": await self._now() - timedelta(seconds=DEAD_AFTER_S)}
            alive = await self._senders.distinct("_id", {"_id": {"$in": owners}, "seen_at": recent})
            return sorted(set(owners) - set(alive))

    async def take_over(self, gone: Sequence[str], policy: DoubtPolicy) -> int:
        async with bounded():
            claimed = await self._mails.update_many(
                {"state": "claimed", "owner": {"$in": [*gone]}},
                change(state="retry", owner=None, error="the sender died", due_in_s=0),
            )
            doubtful = await self._mails.update_many(
                {"state": "data", "owner": {"$in": [*gone]}},
                doubt("the sender died while the server had the mail", policy),
            )
            return claimed.modified_count + doubtful.modified_count

    async def claim(self, owner: str, limit: int) -> Sequence[Claim]:
        claims: list[Claim] = []
        clock = asyncio.get_running_loop().time
        async with bounded():
            now = await self._now()
        # A deadline for each claim and one for all of them, so that a slow server still returns some.
        ends = clock() + OPERATION_TIMEOUT_S
        while len(claims) < limit and clock() < ends:
            documents: list[Document] = []
            while len(claims) + len(documents) < limit and clock() < ends:
                async with bounded():
                    document: Document | None = await self._mails.find_one_and_update(
                        {"state": DUE, "next_attempt_at": {"$lte": now}},
                        change(state="claimed", owner=owner, attempts=1),
                        sort=[("next_attempt_at", 1)],
                    )
                if document is None:
                    break
                documents.append(document)
            if not documents:
                break
            claims += await self._ready(documents, owner, now)
        return claims

    async def _ready(self, documents: Sequence[Document], owner: str, now: datetime) -> Sequence[Claim]:
        """Return the claims whose turn it is, and put the others back. ``documents`` are from before the claim."""
        places = await self._places([one["order_id"] for one in documents if one.get("sequence")])
        ready: list[Claim] = []
        waiting: list[pymongo.UpdateOne] = []
        for document in documents:
            claim = claim_of(document | {"owner": owner, "attempts": document["attempts"] + 1})
            turn = self._turn(document, places, now)
            if turn.superseded_by:
                ready.append(msgspec.structs.replace(claim, superseded_by=turn.superseded_by))
            elif turn.wait_until:
                waiting.append(put_back(claim, document, max(turn.wait_until, now + _TURN_PAUSE)))
            elif not claim.mailbox:
                ready.append(claim)
            else:
                taken_at, free_at = await self._take_quota(claim.mailbox)
                if taken_at:
                    ready.append(msgspec.structs.replace(claim, taken_at=taken_at))
                else:
                    MAILS.labels(claim.kind, "held").inc()
                    waiting.append(
                        put_back(claim, document, max(free_at, now + _TURN_PAUSE), error=held_error(self._quota))
                    )
        if waiting:
            async with bounded():
                await self._mails.bulk_write(waiting, ordered=False)
        return ready

    @staticmethod
    def _turn(document: Document, places: Mapping[str, Sequence[Place]], now: datetime) -> Turn:
        if not document.get("sequence"):
            return Turn()
        waited_since = document["updated_at"] if document["state"] == "pending" else None
        others = places[document["order_id"]]
        resends = document["resends"]
        return turn_of(place_of(document), others, waited_since=waited_since, resends=resends, now=now)

    async def _places(self, order_ids: Sequence[str]) -> Mapping[str, Sequence[Place]]:
        """Return the mails about these orders."""
        places: defaultdict[str, list[Place]] = defaultdict(list)
        if order_ids:
            async with bounded():
                async for document in self._mails.find({"order_id": {"$in": [*set(order_ids)]}}, PLACE):
                    places[document["order_id"]].append(place_of(document))
        return places

    async def _take_quota(self, mailbox: str) -> tuple[datetime | None, datetime]:
        """Return when the quota of an unconfirmed mailbox was taken, or ``None`` and when it has room."""
        async with bounded():
            now = await self._now()
            limit = self._quota.quota
            last_is_free = {f"taken.{limit - 1}": {"$exists": False}}
            first_is_old = {"taken.0": {"$lte": now - self._window}}
            push = {"$push": {"taken": {"$each": [now], "$slice": -limit}}, "$set": {"last": now}}
            try:
                await self._quotas.update_one(
                    {"_id": mailbox, "$or": [last_is_free, first_is_old]}, push, upsert=True
                )
            except DuplicateKeyError:  # it has no room, or another sender has just created it
                quota = await self._quotas.find_one({"_id": mailbox}) or {"taken": []}
                full = len(quota["taken"]) >= limit
                return None, quota["taken"][0] + self._window if full else now
            return now, now

    async def mark_data(self, claim: Claim) -> None:
        if not await self._transition(claim, "claimed", change(state="data")):
            raise ClaimLost

    async def mark_sent(self, claim: Lease, reply: str) -> None:
        async with bounded():
            await self._mails.update_one(held_or_freed(claim), change(state="sent", smtp_reply=reply, error=""))

    async def mark_retry(self, claim: Claim, *, reply: str, error: str, pause_s: float) -> None:
        update = change(state="retry", owner=None, smtp_reply=reply, error=error, due_in_s=pause_s)
        if await self._transition(claim, IN_HAND, update) and claim.taken_at:
            async with bounded():
                await self._quotas.update_one({"_id": claim.mailbox}, {"$pull": {"taken": claim.taken_at}})

    async def mark_failed(self, claim: Claim, *, reply: str, error: str) -> None:
        await self._transition(claim, IN_HAND, change(state="failed", smtp_reply=reply, error=error))

    async def mark_doubtful(self, claim: Claim, error: str, policy: DoubtPolicy) -> None:
        await self._transition(claim, "data", doubt(error, policy))

    async def _transition(self, claim: Claim, state: Condition, update: Change) -> bool:
        """Update the mail if the claim still holds it in that state; return whether it did."""
        mine = {"_id": key(claim), "owner": claim.owner, "attempts": claim.attempt, "state": state}
        async with bounded():
            return (await self._mails.update_one(mine, update)).matched_count == 1

    async def unreported(self, limit: int) -> Sequence[Report]:
        """Return settled mails that are not reported yet, oldest first."""
        fields = {**SHOWN, "order_id": 1, "request_id": 1, "traceparent": 1}
        async with bounded():
            found = self._mails.find({"unreported": True}, fields).sort("updated_at", 1).limit(limit)
            return [report_of(document) async for document in found]

    async def mark_reported(self, reports: Sequence[Report]) -> None:
        """Mark mails as reported. A record that has changed since will be reported again."""
        async with bounded():
            await self._mails.bulk_write([mark_reported(report) for report in reports], ordered=False)

    async def of_account(
        self, account: Account, after: MailRecord | None = None, limit: int = 100
    ) -> Sequence[tuple[MailRecord, bytes]]:
        wanted = of_account(account)
        if after:
            wanted = {"$and": [wanted, following(after)]}
        async with bounded():
            found = self._mails.find(wanted, WITH_MESSAGE).sort([("created_at", 1), ("_id", 1)]).limit(limit)
            return [shown(document) async for document in found]

    async def erase(self, account: Account, at: datetime) -> int:
        # First block older events that are yet to come, then erase the existing mails.
        async with bounded():
            latest = {"$max": {"erased_at": at}}
            await self._erased.update_one({"_id": digest_of(account.user_id)}, latest, upsert=True)
        erased = 0
        while True:
            async with bounded():
                wanted = {"$and": [of_account(account), {"kind": {"$ne": FAREWELL}}]}
                documents = await self._mails.find(wanted).to_list(_ERASE_BATCH)
                if not documents:
                    return erased
                now = await self._now()
                await self._mails.bulk_write([step for found in documents for step in erasure(found, now)])
            erased += len(documents)

    async def release(self, account: Account) -> int:
        bound = {"user_id": account.user_id, "recipient": account.address, "mailbox": {"$gt": ""}}
        held = {**bound, "state": DUE, "error": {"$regex": "^held: "}}
        async with bounded():
            released = await self._mails.update_many(held, change(mailbox="", error=RELEASED, due_in_s=0))
            others = await self._mails.update_many({**bound, "state": UNSENT}, {"$set": {"mailbox": ""}})
        return released.modified_count + others.modified_count

    async def erase_farewells(self) -> int:
        wanted = {"kind": FAREWELL, "state": {"$in": ["sent", "failed"]}, **WITH_RECIPIENT}
        async with bounded():
            documents = await self._mails.find(wanted).to_list(_ERASE_BATCH)
            if documents:
                now = await self._now()
                await self._mails.bulk_write([step for found in documents for step in erasure(found, now)])
        return len(documents)

    async def forget_old(self, erased_days: int) -> None:
        async with bounded():
            now = await self._now()
            await self._erased.delete_many({"erased_at": {"$lt": now - timedelta(days=erased_days)}})
            await self._quotas.delete_many({"last": {"$lt": now - self._window}})

    async def empty_sent(self, older_than_days: int, limit: int) -> int:
        async with bounded():
            before = await self._now() - timedelta(days=older_than_days)
            old = {"state": "sent", "updated_at": {"$lt": before}, **WITH_TEXT}
            ids = [document["_id"] async for document in self._mails.find(old, {"_id": 1}).limit(limit)]
            await self._mails.update_many({"_id": {"$in": ids}, **old}, {"$set": {"message": b""}})
            return len(ids)

    async def find(self, event_id: str) -> tuple[MailRecord, bytes] | None:
        async with bounded():
            document = await self._mails.find_one({"event_id": event_id}, WITH_MESSAGE)
        return None if document is None else shown(document)

    async def list(self, state: str, event_ids: Sequence[str], limit: int) -> Sequence[MailRecord]:
        wanted: Document = {}
        if state:
            wanted["state"] = state
        if event_ids:
            wanted["event_id"] = {"$in": [*event_ids]}
        async with bounded():
            found = self._mails.find(wanted, SHOWN).sort([("created_at", -1), ("event_id", -1)]).limit(limit)
            return [record_of(document) async for document in found]

    async def resend(self, event_id: str) -> bool:
        update = change(
            state="retry",
            owner=None,
            resends=1,
            doubted=False,
            mailbox="",
            error="sent again by an operator",
            due_in_s=0,
        )
        held = {"state": "pending", "error": {"$regex": "^held: "}}
        return await self._operate(event_id, {"$or": [{"state": SETTLED}, held]}, update)

    async def resolve(self, event_id: str, *, sent: bool) -> bool:
        state, resends = ("sent", 0) if sent else ("retry", 1)
        update = change(
            state=state, owner=None, resends=resends, doubted=False, error="resolved by an operator", due_in_s=0
        )
        return await self._operate(event_id, {"state": "unknown"}, update)

    async def _operate(self, event_id: str, wanted: Document, update: Change) -> bool:
        async with bounded():
            result = await self._mails.update_many({"event_id": event_id, **wanted, **WITH_TEXT}, update)
            return result.matched_count > 0

    async def waiting(self) -> Mapping[str, int]:
        async with bounded():
            conditions = unsent(await self._now())
            return {name: await self._mails.count_documents(each) for name, each in conditions.items()}

    async def check(self) -> str:
        async with bounded():
            version = (await self.database.command("buildInfo"))["version"]
            return f"MongoDB {version} at {self._address}"

    async def _now(self) -> datetime:
        """Return the server's time, since ``$$NOW`` in a filter would not use an index."""
        now: datetime = (await self.database.command("hello"))["localTime"]
        return now.replace(tzinfo=UTC)


_BATCH = 100
_POLL_S = 1.0
_RETRY = RetrySchedule(first_s=_POLL_S, longest_s=60.0, jitter=0.0)


class MongoRelay:
    """Publishes ``mail.settled`` for the mails of a ledger at least once; the ledger is its own outbox.

    Any number of relays may run. Two that publish the same fact use the same event id.
    """

    def __init__(self, ledger: MongoLedger, transport: Publisher) -> None:
        self._ledger = ledger
        self._transport = transport
        self._poll = Poll(_POLL_S)
        self._failures = 0

    def wake(self) -> None:
        self._poll.wake()

    async def run(self) -> None:
        """Relay until cancelled, with growing pauses while the transport is down."""
        await self._poll.run(self._relay)

    async def emit(self, *events: Envelope) -> None:
        """Publish events at once. Raises the first error."""
        for error in await self._transport.publish(events):
            if error is not None:
                raise error

    async def _relay(self) -> float | None:
        reports = await self._ledger.unreported(_BATCH)
        if not reports:
            self._failures = 0
            return None
        outcomes = await self._transport.publish([settled_event(report) for report in reports])
        if published := [report for report, error in zip(reports, outcomes, strict=True) if error is None]:
            await self._ledger.mark_reported(published)
        if len(published) < len(reports):
            reason = next(error for error in outcomes if error is not None)
            extra = {"reports": len(reports) - len(published), "reason": str(reason)}
            log.warning("what became of mails is not reported, will try again", extra=extra)
            self._failures += 1
            return _RETRY.pause_s(self._failures)
        self._failures = 0
        return MORE if len(reports) == _BATCH else None


@asynccontextmanager
async def open_ledger(uri: str, *, quota: Rate = UNCONFIRMED) -> AsyncIterator[MongoLedger]:
    """Connect to the URI's database, or ``purveyor``, and create the indexes.

    Raises ``ConfigError`` for an invalid URI, ``ServerAway`` when the server does not answer, and ``StartupError``
    when it refuses the connection.
    """
    if not uri.startswith(("mongodb://", "mongodb+srv://")):  # the driver would take a bare host name
        raise ConfigError(URI_EXPECTED)
    try:
        # motor keeps the loop that runs here.
        client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
            uri,
            appname="purveyor",
            w="majority",
            journal=True,
            tz_aware=True,
            tzinfo=UTC,
            timeoutMS=int(OPERATION_TIMEOUT_S * 1000),
        )
        database = client.get_default_database("purveyor")
    except (InvalidURI, ConfigurationError, InvalidName, ValueError) as error:
        raise ConfigError(URI_EXPECTED) from error  # the parser's message may contain a part of the password
    try:
        ledger = MongoLedger(database, address_of(uri), quota=quota)
        try:
            await ledger.prepare()
        except LOST as error:
            raise ServerAway(f"MongoDB at {address_of(uri)} does not answer: {short(error)}.") from error
        except PyMongoError as error:
            raise StartupError(f"MongoDB at {address_of(uri)} refused the connection: {short(error)}.") from error
        yield ledger
    finally:
        client.close()
