"""The sender between a real ledger and a real SMTP server: what each failure makes of a mail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import purveyor.roles.email
from purveyor.kit.clock import now
from purveyor.kit.db.migrate import migrate
from purveyor.kit.db.postgres import open_database
from purveyor.kit.ids import new_id
from purveyor.kit.metrics import REGISTRY
from purveyor.kit.process.background import Background
from purveyor.kit.process.supervisor import Supervisor
from purveyor.kit.retry import RetrySchedule
from purveyor.roles.email import sender
from purveyor.roles.email.contract import MailRecord
from purveyor.roles.email.journal import Journals
from purveyor.roles.email.ledger.postgres import PostgresLedger
from purveyor.roles.email.mailbox import Mailbox
from purveyor.roles.email.mailer import SmtpMailer, smtp_target
from purveyor.roles.email.ports import DOUBT_PAUSE_S, Claim, DoubtPolicy, Mailer, NewMail
from purveyor.roles.email.sender import Sender
from purveyor_drill.servers.postgres import PostgresServer
from purveyor_drill.servers.smtp import Rule, SmtpSink
from waiting import until

MIGRATIONS = Path(purveyor.roles.email.__file__).with_name("migrations")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    if not server.ours:
        pytest.skip(f"{server.variable} is set: not ours to stop")
    if reason := server.available():
        pytest.skip(reason)
    with server:
        yield server


@pytest.fixture(scope="module")
def sink() -> Iterator[SmtpSink]:
    if reason := SmtpSink.available():
        pytest.skip(reason)
    with SmtpSink() as running:
        yield running


@pytest.fixture
async def ledger(postgres: PostgresServer, sink: SmtpSink) -> AsyncIterator[PostgresLedger]:
    sink.clear()
    url = postgres.create_database("test_sender")
    await migrate(url, "email", MIGRATIONS)
    async with open_database(url, application="tests", max_size=10) as database:
        yield PostgresLedger(database)


@pytest.fixture
def mailer(sink: SmtpSink) -> Iterator[SmtpMailer]:
    mailer = SmtpMailer(smtp_target(f"smtp://127.0.0.1:{sink.port}", "", ""), "orders@shop.test")
    yield mailer
    mailer.close()


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be sent is tried again at once."""
    monkeypatch.setattr(sender, "_LATER", RetrySchedule(first_s=0.05, longest_s=900.0))


@pytest.fixture
def journals(tmp_path: Path) -> Journals:
    return Journals(tmp_path / "journals")


@asynccontextmanager
async def sending(
    ledger: PostgresLedger,
    mailer: Mailer,
    journals: Journals,
    policy: DoubtPolicy = "resend",
    settled: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[None]:
    """A sender as the host runs it."""
    supervisor = Supervisor()
    run = Sender(ledger, mailer, policy, journals=journals, settled=settled).run
    supervisor.start("email", Background("sender", run))
    try:
        yield
    finally:
        await supervisor.stop()


async def record(
    ledger: PostgresLedger,
    kind: str = "order.created",
    sequence: int = 0,
    created_at: datetime | None = None,
) -> str:
    event_id = str(new_id())
    mail = NewMail(
        event_id=event_id,
        kind=kind,
        order_id="o-1" if sequence else "",
        sequence=sequence,
        order_number=1,
        recipient="ann@b.test",
        subject="Order 1",
        message_id=f"<{event_id}@shop.test>",
        message=f"Message-ID: <{event_id}@shop.test>\r\n\r\nDear Ann\r\n".encode(),
        created_at=created_at or now(),
    )
    await ledger.record(mail)
    return event_id


async def settled(ledger: PostgresLedger, *states: str) -> MailRecord:
    """The only mail, as soon as it is in one of these states."""

    async def in_one() -> MailRecord | None:
        (found,) = await ledger.list("", (), 10)
        return found if found.state in states else None

    found = await until(in_one)
    assert found
    return found


async def test_a_mail_is_sent_once(
    ledger: PostgresLedger, mailer: SmtpMailer, sink: SmtpSink, journals: Journals
) -> None:
    event_id = await record(ledger)
    async with sending(ledger, mailer, journals), sending(ledger, mailer, journals):
        found = await settled(ledger, "sent")
    assert (found.attempts, found.smtp_reply) == (1, "250 2.0.0 received")
    assert sink.counts() == {f"<{event_id}@shop.test>": 1}


def order_to_mail() -> tuple[float, float]:
    """Number of confirmations sent, and the seconds that they took together."""
    count, seconds = (REGISTRY.get_sample_value(f"purveyor_order_to_mail_seconds_{of}") for of in ("count", "sum"))
    assert count is not None
    assert seconds is not None
    return count, seconds


async def test_time_from_order_to_mail_counts_confirmations_once(
    ledger: PostgresLedger, mailer: SmtpMailer, sink: SmtpSink, journals: Journals
) -> None:
    """A mail that an operator has sent again is no answer to an order, nor is another kind of mail."""
    sink.script(Rule(at="rcpt", reply="451 4.3.0 later"))
    before = order_to_mail()
    event_id = await record(ledger, created_at=now() - timedelta(seconds=100))
    async with sending(ledger, mailer, journals):
        await settled(ledger, "sent")
        after = order_to_mail()
        assert await ledger.resend(event_id)
        await until(lambda: sink.counts()[f"<{event_id}@shop.test>"] == 2)
        other = await record(ledger, "order.shipped")
        await until(lambda: _is_settled(ledger, other))

    assert after[0] - before[0] == 1
    assert after[1] - before[1] >= 100
    assert order_to_mail() == after


@pytest.mark.parametrize(
    ("rule", "outcome"),
    [
        (Rule(at="rcpt", reply="451 4.3.0 later"), ("park", "sent", 2, 0, 1)),
        (Rule(at="rcpt", reply="550 5.1.1 unknown"), ("resend", "failed", 1, 0, 0)),
        (Rule(at="dot", end="close"), ("resend", "sent", 2, 1, 2)),
        (Rule(at="dot", end="close"), ("park", "unknown", 1, 0, 1)),
        (Rule(at="dot", end="close", times=None), ("resend", "unknown", 2, 1, 2)),
    ],
    ids=["4xx", "5xx", "doubtful-resend", "doubtful-park", "doubtful-for-ever"],
)
async def test_what_the_server_says_decides(
    ledger: PostgresLedger,
    mailer: SmtpMailer,
    sink: SmtpSink,
    journals: Journals,
    *,
    rule: Rule,
    outcome: tuple[DoubtPolicy, str, int, int, int],
) -> None:
    policy, *expected = outcome
    sink.script(rule)
    event_id = await record(ledger)
    async with sending(ledger, mailer, journals, policy):
        found = await settled(ledger, "sent", "failed", "unknown")
        await asyncio.sleep(DOUBT_PAUSE_S + 1.5 if rule.times is None else 0)  # past the next poll
    taken = sink.counts()[f"<{event_id}@shop.test>"]
    assert (found.state, found.attempts, found.resends, taken) == tuple(expected)


async def test_mails_about_one_order_arrive_in_its_order(
    ledger: PostgresLedger, mailer: SmtpMailer, sink: SmtpSink, journals: Journals
) -> None:
    """A 450 for the first mail holds back the cancellation; the confirmation in between is dropped."""
    sink.script(Rule(at="rcpt", reply="450 4.2.1 later", times=2))
    kinds = ("order.created", "order.confirmed", "order.cancelled")
    created, confirmed, cancelled = [await record(ledger, kind, place) for place, kind in enumerate(kinds, 1)]
    async with sending(ledger, mailer, journals):
        await until(lambda: _is_settled(ledger, cancelled))
    assert [mail.message_id for mail in sink.messages()] == [f"<{one}@shop.test>" for one in (created, cancelled)]
    dropped = await ledger.find(confirmed)
    assert dropped is not None
    assert (dropped[0].state, dropped[0].error) == ("failed", "superseded by order.cancelled")


async def _is_settled(ledger: PostgresLedger, event_id: str) -> bool:
    found = await ledger.find(event_id)
    return found is not None and found[0].state in {"sent", "failed"}


class Discreet(SmtpMailer):
    """Keeps what the server says to itself until ``may_tell`` is set."""

    def __init__(self, sink: SmtpSink) -> None:
        super().__init__(smtp_target(f"smtp://127.0.0.1:{sink.port}", "", ""), "orders@shop.test")
        self.knows = asyncio.Event()
        self.may_tell = asyncio.Event()

    async def send(self, claim: Claim, before_dot: Callable[[], Awaitable[None]]) -> str:
        try:
            return await super().send(claim, before_dot)
        finally:
            self.knows.set()
            await self.may_tell.wait()


@pytest.fixture
def discreet(sink: SmtpSink) -> Iterator[Discreet]:
    mailer = Discreet(sink)
    yield mailer
    mailer.close()


LATER = Rule(at="dot", reply="451 4.3.0 no")


@pytest.mark.parametrize("rules", [(), (LATER,)], ids=["250", "451"])
async def test_a_ledger_that_is_away_when_the_answer_comes_makes_no_second_mail(
    postgres: PostgresServer,
    ledger: PostgresLedger,
    discreet: Discreet,
    sink: SmtpSink,
    journals: Journals,
    *,
    caplog: pytest.LogCaptureFixture,
    rules: tuple[Rule, ...],
) -> None:
    sink.script(*rules)
    await record(ledger)
    async with sending(ledger, discreet, journals):
        await discreet.knows.wait()
        postgres.halt()
        discreet.may_tell.set()
        await _until(lambda: "cannot be recorded yet" in caplog.text)
        postgres.restart()
        found = await settled_again(ledger)
    assert (found.state, found.resends) == ("sent", 0)
    assert found.attempts == 1 + len(rules)
    assert set(sink.counts().values()) == {1}


@pytest.mark.parametrize("rules", [(), (LATER,)], ids=["250", "451"])
async def test_a_ledger_that_refuses_to_write_when_the_answer_comes_is_asked_until_it_does(
    ledger: PostgresLedger,
    discreet: Discreet,
    sink: SmtpSink,
    journals: Journals,
    *,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    rules: tuple[Rule, ...],
) -> None:
    """An error of the ledger's own, no sign that anything is away."""
    monkeypatch.setattr(sender, "_GRACE_S", 0.1)  # so that a sender that gives up does so within the test
    sink.script(*rules)
    await record(ledger)
    async with sending(ledger, discreet, journals):
        await discreet.knows.wait()
        await ledger._database.execute(
            "create function refuse() returns trigger language plpgsql as $$ begin raise data_corrupted; end $$"
        )
        await ledger._database.execute(
            "create trigger refuse before update on email.mails execute function refuse()"
        )
        discreet.may_tell.set()
        await _until(lambda: caplog.text.count("cannot be recorded yet") >= 2)
        await ledger._database.execute("drop trigger refuse on email.mails")
        found = await settled(ledger, "sent")
    assert (found.state, found.attempts, found.resends) == ("sent", 1 + len(rules), 0)
    assert set(sink.counts().values()) == {1}


class BrokenOnce(Mailbox):
    """Fails with an error of its own, before or after the point of no return, and then works."""

    def __init__(self, folder: Path, *, after: bool) -> None:
        super().__init__(folder)
        self._after = after
        self._broken = True

    async def send(self, claim: Claim, before_dot: Callable[[], Awaitable[None]]) -> str:
        if self._broken:
            self._broken = False
            if self._after:
                await before_dot()
            raise OSError("disk full")
        return await super().send(claim, before_dot)


@pytest.mark.parametrize("after", [False, True])
async def test_a_fault_of_the_mailer_leaves_no_mail_behind(
    ledger: PostgresLedger, journals: Journals, tmp_path: Path, after: bool
) -> None:
    await record(ledger)
    async with sending(ledger, BrokenOnce(tmp_path, after=after), journals):
        found = await settled(ledger, "sent")
    assert (found.attempts, found.resends) == (2, int(after))


class Gated(Mailbox):
    """Stores as many mails as were let through."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.in_hand = 0
        self._through = asyncio.Semaphore(0)

    async def send(self, claim: Claim, before_dot: Callable[[], Awaitable[None]]) -> str:
        self.in_hand += 1
        await self._through.acquire()
        return await super().send(claim, before_dot)

    def let_through(self, mails: int) -> None:
        for _ in range(mails):
            self._through.release()


async def test_sender_claims_more_when_half_of_its_slots_are_free(
    ledger: PostgresLedger, journals: Journals, tmp_path: Path
) -> None:
    mailer = Gated(tmp_path)
    for _ in range(mailer.slots + 2):
        await record(ledger)
    async with sending(ledger, mailer, journals):
        await until(lambda: mailer.in_hand == mailer.slots)
        mailer.let_through(1)
        await until(lambda: _count(ledger, "sent", 1))
        assert await _count(ledger, "pending", 2)
        mailer.let_through(1)
        await until(lambda: mailer.in_hand == mailer.slots + 2)
        claimed = {mail.updated_at for mail in await ledger.list("claimed", (), 10)}
        assert len(claimed) == 2  # those that began and those that followed, each by one statement
        mailer.let_through(mailer.slots)
        await until(lambda: _count(ledger, "sent", mailer.slots + 2))


async def _count(ledger: PostgresLedger, state: str, mails: int) -> bool:
    return len(await ledger.list(state, (), 100)) == mails


@pytest.mark.parametrize("policy", ["resend", "park"])
async def test_what_a_dead_senders_journal_knows_is_recorded_and_not_sent_again(
    ledger: PostgresLedger, mailer: SmtpMailer, sink: SmtpSink, journals: Journals, policy: DoubtPolicy
) -> None:
    await record(ledger)
    async with ledger.ownership() as gone:
        with journals.opened() as journal:
            (claim,) = await ledger.claim(gone.name, 1)
            await ledger.mark_data(claim)
            journal.accepted(claim, "250 noted")
    told: list[str] = []
    async with sending(ledger, mailer, journals, policy, told.append):
        found = await settled(ledger, "sent", "unknown")
    assert (found.state, found.smtp_reply, found.attempts, found.resends) == ("sent", "250 noted", 1, 0)
    assert sink.counts() == {}
    assert told


async def test_a_sender_leaves_no_journal_behind(
    ledger: PostgresLedger, mailer: SmtpMailer, journals: Journals, tmp_path: Path
) -> None:
    await record(ledger)
    async with sending(ledger, mailer, journals):
        assert (await settled(ledger, "sent")).state == "sent"
        (file,) = (tmp_path / "journals").iterdir()
        assert file.stat().st_size == 0
    assert list((tmp_path / "journals").iterdir()) == []


async def test_a_folder_that_cannot_be_written_stops_nobody(
    ledger: PostgresLedger, mailer: SmtpMailer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    await record(ledger)
    async with sending(ledger, mailer, Journals(tmp_path / "file" / "journals")):
        assert (await settled(ledger, "sent")).state == "sent"
    assert [r.levelname for r in caplog.records if "no journal" in r.message] == ["WARNING"]


async def settled_again(ledger: PostgresLedger) -> MailRecord:
    """Like ``settled``, while the server may still be starting."""

    async def is_there() -> bool:
        with suppress(Exception):
            await ledger.check()
            return True
        return False

    await until(is_there)
    return await settled(ledger, "sent")


async def _until(condition: Callable[[], bool]) -> None:
    await until(lambda: asyncio.to_thread(condition))
