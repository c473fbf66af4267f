"""The sender's journal on a real disk: it outlives a kill, is adopted once its owner is gone, and stays small."""

import asyncio
import os
import resource
import stat
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import purveyor.roles.email
from purveyor.kit.clock import now
from purveyor.kit.db.migrate import migrate
from purveyor.kit.db.postgres import open_database
from purveyor.kit.errors import Unavailable
from purveyor.kit.ids import new_id
from purveyor.roles.email.journal import Journals
from purveyor.roles.email.ledger.postgres import PostgresLedger
from purveyor.roles.email.ports import Claim, NewMail
from purveyor_drill.servers.postgres import PostgresServer
from roles.email.journal_owner import claim_of
from waiting import PATIENCE_S

MIGRATIONS = Path(purveyor.roles.email.__file__).with_name("migrations")
OWNER = Path(__file__).with_name("journal_owner.py")


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    server = PostgresServer()
    if not server.ours:
        pytest.skip(f"{server.variable} is set: not ours to stop")
    if reason := server.available():
        pytest.skip(reason)
    with server:
        yield server


@pytest.fixture
async def ledger(postgres: PostgresServer) -> AsyncIterator[PostgresLedger]:
    url = postgres.create_database("test_journal")
    await migrate(url, "email", MIGRATIONS)
    async with open_database(url, application="tests", max_size=4) as database:
        yield PostgresLedger(database)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "sender-journals"


async def at_data(ledger: PostgresLedger) -> Claim:
    """A mail whose sender is gone, left at ``data``."""
    event_id = str(new_id())
    mail = NewMail(
        event_id=event_id,
        kind="order.created",
        order_number=1,
        recipient="ann@b.test",
        subject="Order 1",
        message_id=f"<{event_id}@shop.test>",
        message=b"Subject: x\r\n\r\n",
        created_at=now(),
    )
    await ledger.record(mail)
    async with ledger.ownership() as gone:
        (claim,) = await ledger.claim(gone.name, 1)
        await ledger.mark_data(claim)
    return claim


async def state(ledger: PostgresLedger, claim: Claim) -> str:
    found = await ledger.find(claim.event_id)
    assert found is not None
    return found[0].state


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def left_behind(folder: Path, *claims: Claim) -> Path:
    """The journal of a dead sender that had noted these."""
    with Journals(folder).opened() as journal:
        for claim in claims:
            journal.accepted(claim, "250 noted")
    (file,) = files(folder)
    return file


def test_it_is_its_owners_alone_and_gone_at_the_end(folder: Path) -> None:
    claim = claim_of(str(new_id()), "1")
    with Journals(folder).opened() as journal:
        journal.accepted(claim, "250 ok")
        (file,) = files(folder)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert claim.event_id in file.read_text()
        journal.recorded(claim)
        assert file.read_text() == ""
    assert files(folder) == []


async def test_a_killed_senders_notes_are_adopted(ledger: PostgresLedger, folder: Path) -> None:
    claim = await at_data(ledger)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, OWNER, folder, claim.event_id, claim.owner),
        stdout=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )
    try:
        assert process.stdout is not None
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_S) == b"ready\n"
        assert await Journals(folder).adopt(ledger, ()) == 0
        assert await state(ledger, claim) == "data"
    finally:
        process.kill()
        await process.wait()
    assert await Journals(folder).adopt(ledger, ()) == 1
    assert await state(ledger, claim) == "sent"
    assert files(folder) == []
    assert await Journals(folder).adopt(ledger, ()) == 0


async def test_the_notes_of_a_sender_that_is_gone_but_lives_are_recorded_too(
    ledger: PostgresLedger, folder: Path
) -> None:
    claim = await at_data(ledger)
    with Journals(folder).opened() as frozen:
        frozen.accepted(claim, "250 noted")
        assert await Journals(folder).adopt(ledger, (claim.owner,)) == 1
        assert await state(ledger, claim) == "sent"
        assert len(files(folder)) == 1
        frozen.recorded(claim)
    assert files(folder) == []


async def test_nothing_is_forgotten_while_the_ledger_is_away(
    postgres: PostgresServer, ledger: PostgresLedger, folder: Path
) -> None:
    claim = await at_data(ledger)
    left_behind(folder, claim)
    postgres.halt()
    try:
        with pytest.raises(Unavailable):
            await Journals(folder).adopt(ledger, ())
        assert len(files(folder)) == 1
    finally:
        postgres.restart()
    assert await Journals(folder).adopt(ledger, ()) == 1
    assert await state(ledger, claim) == "sent"


async def test_many_who_adopt_at_once(ledger: PostgresLedger, folder: Path) -> None:
    claims = [await at_data(ledger) for _ in range(5)]
    left_behind(folder, *claims)
    gone = [claim.owner for claim in claims]
    await asyncio.gather(*(Journals(folder).adopt(ledger, gone) for _ in range(4)))
    assert [await state(ledger, claim) for claim in claims] == ["sent"] * 5
    assert files(folder) == []


async def test_what_was_recorded_counts_no_longer(ledger: PostgresLedger, folder: Path) -> None:
    known, unknown = await at_data(ledger), await at_data(ledger)
    with Journals(folder).opened() as journal:
        journal.accepted(known, "250 noted")
        journal.accepted(unknown, "250 noted")
        journal.recorded(known)
    assert await Journals(folder).adopt(ledger, ()) == 1
    assert [await state(ledger, claim) for claim in (known, unknown)] == ["data", "sent"]


async def test_lines_that_were_cut_off_or_are_not_ours_are_passed_over(
    ledger: PostgresLedger, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    whole, cut = await at_data(ledger), await at_data(ledger)
    file = left_behind(folder, whole, cut)
    first, second, _ = file.read_bytes().split(b"\n")
    file.write_bytes(b"{}\n" + first + b"\n" + second[:-5])
    assert await Journals(folder).adopt(ledger, ()) == 1
    assert [await state(ledger, claim) for claim in (whole, cut)] == ["sent", "data"]
    assert "not ours" in caplog.text


@contextmanager
def disk_full_at(size: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: a write is cut short, the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_a_full_disk_costs_notes_but_no_others(
    ledger: PostgresLedger, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, lost, also_lost, last = [await at_data(ledger) for _ in range(4)]
    with Journals(folder).opened() as journal:
        journal.accepted(first, "250 noted")
        (file,) = files(folder)
        size = file.stat().st_size
        with disk_full_at(size + 20):
            journal.accepted(lost, "250 noted")
            journal.accepted(also_lost, "250 noted")
        assert file.stat().st_size == size
        journal.accepted(last, "250 noted")
    assert await Journals(folder).adopt(ledger, ()) == 2
    assert [await state(ledger, claim) for claim in (first, lost, also_lost, last)] == [
        "sent",
        "data",
        "data",
        "sent",
    ]
    assert caplog.text.count("cannot be written") == 1


def test_a_folder_that_cannot_be_had_is_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").touch()
    journals = Journals(tmp_path / "file" / "journals")
    claim = claim_of(str(new_id()), "1")
    for _ in range(2):
        with journals.opened() as journal:
            journal.accepted(claim, "250 ok")
            journal.recorded(claim)
    assert caplog.text.count("no journal for the sender") == 1
