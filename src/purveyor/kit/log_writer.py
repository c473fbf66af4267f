"""Writes log lines beside the work: a reader who stopped, or a full disk, costs lines and never time."""

import atexit
import logging
import os
import select
import threading
import time
from collections import deque

from purveyor.kit.metrics import LOG_LINES_DROPPED

_MAX_WAITING_BYTES = 4 * 1024 * 1024
_MAX_WRITE_BYTES = 64 * 1024
_FLUSH_WITHIN_S = 1.0
_GATHER_S = 0.02


class WriterHandler(logging.Handler):
    """Formats where it is called, writes to a file descriptor from a thread of its own.

    At most 4 MiB of lines wait; further ones are dropped and counted (``purveyor_log_lines_dropped_total``).
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        # Never through sys.stderr: a thread that is stuck inside its lock would stop the interpreter's end.
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._idle = False
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="log writer", daemon=True).start()
        atexit.register(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
        """See ``logging.Handler``."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:
            self.handleError(record)
            return
        with self._changed:
            if self._bytes + len(line) > _MAX_WAITING_BYTES:
                self._drop(1)
                return
            self._lines.append(line)
            self._bytes += len(line)
            if self._idle:
                self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines are written, at most 1 s."""
        with self._changed:
            self._changed.wait_for(lambda: not self._bytes, timeout=_FLUSH_WITHIN_S)

    def _drop(self, lines: int) -> None:
        self._dropped += lines
        LOG_LINES_DROPPED.inc(lines)

    def _work(self) -> None:
        while True:
            batch = self._take()
            size = sum(map(len, batch))
            written = _write(self._descriptor, b"".join(batch))
            with self._changed:
                self._bytes -= size
                if not written:
                    self._drop(len(batch))
                elif self._dropped and not self._lines:
                    self._tell()
                self._changed.notify_all()
            # Lines gather meanwhile: to wake this thread for each would cost a request a tenth of its time.
            time.sleep(_GATHER_S)

    def _take(self) -> list[bytes]:
        """The next lines, as many as make one write; waits for the first."""
        with self._changed:
            self._idle = True
            self._changed.wait_for(lambda: bool(self._lines))
            self._idle = False
            batch = [self._lines.popleft()]
            size = len(batch[0])
            while self._lines and size + len(self._lines[0]) <= _MAX_WRITE_BYTES:
                size += len(self._lines[0])
                batch.append(self._lines.popleft())
            return batch

    def _tell(self) -> None:
        """Leave a line in the log on what is missing from it, now that it can be written again."""
        facts = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": "log lines dropped"}
        record = logging.makeLogRecord(facts | {"lines": self._dropped})
        self._dropped = 0
        line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        self._lines.append(line)
        self._bytes += len(line)


def _write(descriptor: int, content: bytes) -> bool:
    """Write it all, however long it takes; whether that could be done."""
    rest = memoryview(content)
    try:
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # whoever shares the terminal has made it so
                select.select([], [descriptor], [])
    except OSError:  # the disk is full, or the reader is gone
        return False
    return True
