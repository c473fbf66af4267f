"""Where the mails of a shape land. Each is read and parsed once, however often a test looks for its own."""

from collections.abc import Sequence
from pathlib import Path

from purveyor_drill.servers.smtp import SmtpSink
from shop import Mail


class MailFolder:
    """The files of a development mailbox."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, Mail] = {}
        self._mails: list[Mail] = []

    def read(self) -> Sequence[Mail]:
        """Every mail, oldest first: the file names are UUIDv7."""
        there = {path.name for path in self._folder.glob("*.eml")}
        if new := sorted(there - self._read.keys()):
            self._read |= {name: Mail((self._folder / name).read_bytes()) for name in new}
            self._mails = [self._read[name] for name in sorted(self._read)]
        return self._mails


class SunkMails:
    """What an SMTP sink that is never cleared has taken."""

    def __init__(self, sink: SmtpSink) -> None:
        self._sink = sink
        self._read: list[Mail] = []
        self._position = 0

    def read(self) -> Sequence[Mail]:
        """Every mail, oldest first."""
        new, self._position = self._sink.messages_since(self._position)
        self._read += [Mail(received.content) for received in new]
        return self._read
