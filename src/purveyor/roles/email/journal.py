"""What a sender notes on its own disk between a server's 250 and the ledger's record of it.

A process that is killed in between leaves the note behind; whoever takes its mails over reads that first, and
sends no second mail. Nothing is flushed to the disk: the notes outlive the process, not the machine.
"""

import fcntl
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from purveyor.kit.ids import new_id
from purveyor.roles.email.ports import Claim, Lease, Ledger

log = logging.getLogger(__name__)


class Note(Lease, frozen=True, kw_only=True):
    """A server's acceptance of a mail; ``recorded``: the ledger knows it, the note counts no longer."""

    reply: str
    recorded: bool = False


_Key = tuple[str, str, str]

_decoder = msgspec.json.Decoder(Note)


class Journal:
    """One sender's notes, in a file that is locked as long as the sender lives; without one, it does nothing."""

    def __init__(self, file: int | None) -> None:
        self._file = file
        self._size = 0
        self._open: dict[_Key, str] = {}
        self._complained = False

    @property
    def has_open_notes(self) -> bool:
        """Whether the ledger still lacks something that was noted."""
        return bool(self._open)

    def accepted(self, claim: Claim, reply: str) -> None:
        """Note that a server has taken a mail."""
        self._open[_key(claim)] = reply
        self._write(_note(claim, reply, recorded=False))

    def recorded(self, claim: Claim) -> None:
        """Note that the ledger knows it too, once or again. The file is emptied when nothing in it counts."""
        reply = self._open.pop(_key(claim), "")
        if not self._open:
            self._cut(0)
        else:
            self._write(_note(claim, reply, recorded=True))

    def close(self) -> None:
        """Give up the lock; what is noted afterwards is lost."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _write(self, note: Note) -> None:
        if self._file is None:
            return
        line = msgspec.json.encode(note) + b"\n"
        try:
            written = os.write(self._file, line)
            if written < len(line):
                raise OSError(f"{written} of {len(line)} bytes written")  # noqa: TRY301 - a disk that is full now
        except OSError as error:
            if not self._complained:
                log.warning("the sender's journal cannot be written: a crash may double a mail: %s", error)
            self._complained = True
            self._cut(self._size)
        else:
            self._size += written

    def _cut(self, size: int) -> None:
        if self._file is not None:
            os.ftruncate(self._file, size)
            self._size = size


class Journals:
    """The journals of all senders that share a folder and a ledger."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._complained = False

    @contextmanager
    def opened(self) -> Iterator[Journal]:
        """A journal for one sender; removed at the end, unless somebody still has to read it."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path, file = _create(self._folder)
        except OSError as error:
            if not self._complained:
                log.warning("no journal for the sender: a crash may double a mail: %s", error)
            self._complained = True
            yield Journal(None)
            return
        journal = Journal(file)
        try:
            yield journal
        finally:
            if not journal.has_open_notes:
                path.unlink(missing_ok=True)
            journal.close()

    async def adopt(self, ledger: Ledger, gone: Sequence[str]) -> int:
        """Record what senders have noted that are dead, or of these names; how many notes.

        Raises ``Unavailable`` when the ledger is away; nothing is forgotten then. Safe to do at the same time
        as others: a note is recorded again without effect.
        """
        adopted = 0
        for path in sorted(self._folder.glob("*.jsonl")):
            with _reading(path) as (notes, dead):
                for note in notes:
                    if dead or note.owner in gone:
                        await ledger.mark_sent(note, note.reply)
                        adopted += 1
                if dead:
                    path.unlink(missing_ok=True)
        return adopted


def _key(held: Lease) -> _Key:
    return held.event_id, held.kind, held.recipient


def _note(claim: Claim, reply: str, *, recorded: bool) -> Note:
    held = {name: getattr(claim, name) for name in Lease.__struct_fields__}
    return Note(**held, reply=reply, recorded=recorded)


def _create(folder: Path) -> tuple[Path, int]:
    """A new file with our lock on it. Raises ``OSError``."""
    while True:
        path = folder / f"{new_id()}.jsonl"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        if _lock(file) and path.exists():
            return path, file
        os.close(file)  # somebody took it for a dead sender's before it was locked


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _reading(path: Path) -> Iterator[tuple[Sequence[Note], bool]]:
    """The notes of a journal that still count, and whether its sender is dead; others are kept out meanwhile."""
    with ExitStack() as stack:
        try:
            file = os.open(path, os.O_RDONLY)
            stack.callback(os.close, file)
            dead = _lock(file)
            content = path.read_bytes()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):  # which somebody else has adopted
                log.warning("a sender's journal cannot be read: %s", error)
            content, dead = b"", False
        yield tuple(_counting(content).values()), dead


def _counting(content: bytes) -> Mapping[_Key, Note]:
    """Without what the ledger knows, and without a last line that was cut off."""
    notes: dict[_Key, Note] = {}
    for line in content.split(b"\n")[:-1]:
        try:
            note = _decoder.decode(line)
        except msgspec.MsgspecError as error:
            log.warning("a line of a sender's journal is not ours: %s", error)
            continue
        if note.recorded:
            notes.pop(_key(note), None)
        else:
            notes[_key(note)] = note
    return notes
