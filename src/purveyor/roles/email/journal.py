"""A sender's journal, which notes each accepted mail on disk until the ledger has recorded it.

If the process is killed in between, the sender that takes over reads the journal first and does not send the mail
again. Without fsync, the notes survive the process but not the machine.
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
    """The server's acceptance of a mail. A ``recorded`` note cancels an earlier one."""

    reply: str
    recorded: bool = False


_Key = tuple[str, str, str]

_decoder = msgspec.json.Decoder(Note)


class Journal:
    """A sender's journal in a file that it locks while it lives. Without a file, it does nothing."""

    def __init__(self, file: int | None) -> None:
        self._file = file
        self._size = 0
        self._open: dict[_Key, str] = {}
        self._warned = False

    @property
    def has_open_notes(self) -> bool:
        """True if the ledger still lacks a noted mail."""
        return bool(self._open)

    def accepted(self, claim: Claim, reply: str) -> None:
        self._open[_key(claim)] = reply
        self._write(_note(claim, reply, recorded=False))

    def recorded(self, claim: Claim) -> None:
        """Note that the ledger has recorded a mail, and truncate the file if no open note is left. Idempotent."""
        reply = self._open.pop(_key(claim), "")
        if not self._open:
            self._truncate(0)
        else:
            self._write(_note(claim, reply, recorded=True))

    def close(self) -> None:
        """Release the lock. Later notes are ignored."""
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
                raise OSError(f"{written} of {len(line)} bytes written")  # noqa: TRY301 - disk full
        except OSError as error:
            if not self._warned:
                log.warning("the sender's journal cannot be written: a crash may double a mail: %s", error)
            self._warned = True
            self._truncate(self._size)
        else:
            self._size += written

    def _truncate(self, size: int) -> None:
        if self._file is not None:
            os.ftruncate(self._file, size)
            self._size = size


class Journals:
    """The journals of all senders that share a folder and a ledger."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._warned = False

    @contextmanager
    def opened(self) -> Iterator[Journal]:
        """Open a journal for a sender. It is removed at the end unless it has open notes."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            path, file = _create(self._folder)
        except OSError as error:
            if not self._warned:
                log.warning("no journal for the sender: a crash may double a mail: %s", error)
            self._warned = True
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
        """Record the notes of dead senders, and of the senders in ``gone``; return how many.

        Raises ``Unavailable`` when the ledger is down, without losing notes. Several senders may adopt at the same
        time, since recording a note again has no effect.
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
    """Create and lock a new file. Raises ``OSError``."""
    while True:
        path = folder / f"{new_id()}.jsonl"
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        if _lock(file) and path.exists():
            return path, file
        os.close(file)  # another sender adopted it before it was locked


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _reading(path: Path) -> Iterator[tuple[Sequence[Note], bool]]:
    """Yield a journal's open notes and whether its sender is dead, and hold its lock if so."""
    with ExitStack() as stack:
        try:
            file = os.open(path, os.O_RDONLY)
            stack.callback(os.close, file)
            dead = _lock(file)
            content = path.read_bytes()
        except OSError as error:
            if not isinstance(error, FileNotFoundError):  # another sender has adopted it
                log.warning("a sender's journal cannot be read: %s", error)
            content, dead = b"", False
        yield tuple(_open_notes(content).values()), dead


def _open_notes(content: bytes) -> Mapping[_Key, Note]:
    """Parse the notes that are not recorded, ignoring an incomplete last line."""
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
