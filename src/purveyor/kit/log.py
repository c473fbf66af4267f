"""Logging: one event a line on stderr, JSON or for a person's eye; the request id is on every line."""

import atexit
import logging
import os
import re
import select
import sys
import threading
import time
from collections import deque
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Literal

import msgspec

request_id: ContextVar[str] = ContextVar("request_id", default="")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_COLORS = {"DEBUG": "\x1b[2m", "INFO": "\x1b[36m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m"}
_CHATTY = ("uvicorn.error", "httpx", "httpcore", "aio_pika", "asyncpg", "pymongo", "faststream")
_LONGEST_CHAIN = 4
_encoder = msgspec.json.Encoder(enc_hook=str)
# What JSON may hold as it is, but a terminal or a reader of lines takes for a command or a line's end.
_CONTROL = re.compile("[\x7f-\x9f\u2028\u2029]")


def printable(text: str) -> str:
    """Text on one line, control characters escaped: foreign text cannot forge a line or command the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = {}
    if rid := request_id.get():
        fields["request_id"] = rid
    fields.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
    return fields


class JsonFormatter(logging.Formatter):
    """One JSON object a line; whatever a client sent cannot start a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        entry: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        try:
            line = _encoder.encode(entry).decode()
        except (UnicodeEncodeError, TypeError):  # lone surrogates, or keys that are no JSON names
            plain = {key: str(value).encode("utf-8", "backslashreplace").decode() for key, value in entry.items()}
            line = _encoder.encode(plain).decode()
        return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


class ConsoleFormatter(logging.Formatter):
    """Time, level, event, then ``key=value``: for a terminal."""

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
        """See ``logging.Formatter``."""
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S.%f")[:-3]
        level = f"{record.levelname.lower():<7}"
        if self._color:
            level = f"{_COLORS.get(record.levelname, '')}{level}\x1b[0m"
        fields = " ".join(f"{key}={self._value(value)}" for key, value in _fields(record).items())
        line = f"{moment} {level} {printable(record.getMessage())}{'  ' + fields if fields else ''}"
        if not record.exc_info:
            return line
        trace = self.formatException(record.exc_info).split("\n")
        return "\n".join([line, *map(printable, trace)])

    @staticmethod
    def _value(value: object) -> str:
        text = printable(str(value))
        return f'"{text}"' if " " in text else text


def _stderr_handler() -> logging.Handler:

    try:
        return WriterHandler(sys.stderr.fileno())
    except (AttributeError, OSError):  # something else stands in its place, such as a test's buffer
        return logging.StreamHandler()


def cause_of(error: BaseException) -> dict[str, str]:
    """What an error came of, in a line, for ``extra``: ``{"cause": "ReadError < ConnectionResetError: gone"}``."""
    chain: dict[str, None] = {}
    cause = error.__cause__
    for _ in range(_LONGEST_CHAIN):
        if cause is None:
            break
        chain[f"{type(cause).__name__}: {cause}".removesuffix(": ")] = None  # once: httpx repeats httpcore
        cause = cause.__cause__
    return {"cause": " < ".join(chain)} if chain else {}


def configure(style: Literal["json", "console", ""], level: str) -> None:
    """Send all logging of the process to stderr. An empty style: console on a terminal, else JSON."""
    terminal = sys.stderr.isatty()
    handler = _stderr_handler()
    if style == "json" or (style == "" and not terminal):
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(ConsoleFormatter(color=terminal))
    # Neither formatter shows these, and finding them out takes longer than the rest of a line (Python's logging
    # HOWTO, section "Optimization").
    logging._srcfile = None  # noqa: SLF001 - the documented switch
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it logs what it raises as well


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
        from purveyor.kit.metrics import LOG_LINES_DROPPED  # here: a command that only reads needs no metrics

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
