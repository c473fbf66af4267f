"""Logging to stderr, one event per line with the request id, as JSON or for a terminal."""

import atexit
import logging
import os
import re
import select
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import lru_cache
from typing import Literal

import msgspec

from purveyor.kit import tracing

request_id: ContextVar[str] = ContextVar("request_id", default="")
_EMPTY = vars(logging.makeLogRecord({}))
_STANDARD = frozenset(_EMPTY) | {"message", "asctime", "taskName"}
_COLORS = {"DEBUG": "\x1b[2m", "INFO": "\x1b[36m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m"}
_QUIET_LOGGERS = ("uvicorn.error", "httpx", "httpcore", "aio_pika", "asyncpg", "pymongo", "faststream")
_MAX_CAUSES = 4
_encoder = msgspec.json.Encoder(enc_hook=str)
# Valid unescaped in JSON, but a terminal or a line reader would take them for a command or a line end.
_CONTROL = re.compile("[\x7f-\x9f\u2028\u2029]")


def printable(text: str) -> str:
    """Escape line ends and control characters, so that foreign text cannot forge lines or control the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def _fields(record: logging.LogRecord) -> dict[str, object]:
    fields: dict[str, object] = {}
    if rid := request_id.get():
        fields["request_id"] = rid
    fields.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
    return fields


class _Bare(logging.LogRecord):
    """A record without thread, process and place in the code, which take longer than the rest of a line."""

    def __init__(self, name: str, level: int, event: str, fields: Mapping[str, object]) -> None:
        vars(self).update(_EMPTY)
        vars(self).update(fields)
        self.name = name
        self.levelno = level
        self.levelname = logging.getLevelName(level)
        self.msg = event
        self.created = time.time()


def write(logger: logging.Logger, level: int, event: str, fields: Mapping[str, object]) -> None:
    """Log an event whose fields are not those of a log record, with less work than ``Logger.log`` has."""
    if logger.isEnabledFor(level):
        logger.handle(_Bare(logger.name, level, event, fields))


@lru_cache(maxsize=2)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class JsonFormatter(logging.Formatter):
    """One JSON object per line. Text from a client cannot start a new line."""

    def format(self, record: logging.LogRecord) -> str:
        second, millisecond = divmod(int(record.created * 1000), 1000)
        entry: dict[str, object] = {
            "time": f"{_second(second)}.{millisecond:03d}+00:00",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **_fields(record),
        }
        if trace_id := tracing.trace_id():
            entry["trace_id"] = trace_id
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        try:
            line = _encoder.encode(entry).decode()
        except (UnicodeEncodeError, TypeError):  # lone surrogates, or keys that are not strings
            plain = {key: str(value).encode("utf-8", "backslashreplace").decode() for key, value in entry.items()}
            line = _encoder.encode(plain).decode()
        if line.isascii() and "\x7f" not in line:
            return line
        return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", line)


class ConsoleFormatter(logging.Formatter):
    """Time, level, event and ``key=value`` pairs, for a terminal. Leaves out the trace id, which is long."""

    def __init__(self, *, color: bool) -> None:
        super().__init__()
        self._color = color

    def format(self, record: logging.LogRecord) -> str:
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
    except (AttributeError, OSError):  # not a file, such as the buffer of a test
        return logging.StreamHandler()


def cause_of(error: BaseException) -> dict[str, str]:
    """Return an error's chain of causes for ``extra``: ``{"cause": "ReadError < ConnectionResetError: gone"}``."""
    chain: dict[str, None] = {}
    cause = error.__cause__
    for _ in range(_MAX_CAUSES):
        if cause is None:
            break
        chain[f"{type(cause).__name__}: {cause}".removesuffix(": ")] = (
            None  # a dict removes duplicates: httpx repeats httpcore
        )
        cause = cause.__cause__
    return {"cause": " < ".join(chain)} if chain else {}


def configure(style: Literal["json", "console", ""], level: str) -> None:
    """Send all logging of the process to stderr. An empty style means console on a terminal, else JSON."""
    terminal = sys.stderr.isatty()
    handler = _stderr_handler()
    if style == "json" or (style == "" and not terminal):
        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(ConsoleFormatter(color=terminal))
    # Neither formatter shows these fields, and collecting them takes longer than the rest of a line (Python's
    # logging HOWTO, section "Optimization").
    logging._srcfile = None  # noqa: SLF001 - the documented switch
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _QUIET_LOGGERS:
        logging.getLogger(name).setLevel(max(logging.WARNING, logging.getLogger().level))
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # it logs what it also raises


_MAX_WAITING_BYTES = 4 * 1024 * 1024
_MAX_WRITE_BYTES = 64 * 1024
_FLUSH_WITHIN_S = 1.0
_GATHER_S = 0.02


class WriterHandler(logging.Handler):
    """Non-blocking log handler: drops lines when the descriptor blocks or the disk is full.

    Formats in the calling thread and writes in a thread of its own. At most 4 MiB of lines wait; dropped lines are
    counted in ``purveyor_log_lines_dropped_total``.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        # Not sys.stderr: a thread stuck inside its lock would keep the interpreter from exiting.
        self._descriptor = descriptor
        self._lines: deque[bytes] = deque()
        self._bytes = 0
        self._dropped = 0
        self._idle = False
        self._changed = threading.Condition()
        threading.Thread(target=self._work, name="log writer", daemon=True).start()
        atexit.register(self.flush)

    def emit(self, record: logging.LogRecord) -> None:
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
        from purveyor.kit.metrics import LOG_LINES_DROPPED  # slow to import for a short command

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
                    self._report_dropped()
                self._changed.notify_all()
            # Collect lines: waking this thread for each would cost a tenth of a request's time.
            time.sleep(_GATHER_S)

    def _take(self) -> list[bytes]:
        """Wait for a line and return as many as fit into one write."""
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

    def _report_dropped(self) -> None:
        fields = {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": "log lines dropped"}
        record = logging.makeLogRecord(fields | {"lines": self._dropped})
        self._dropped = 0
        line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        self._lines.append(line)
        self._bytes += len(line)


def _write(descriptor: int, content: bytes) -> bool:
    """Write all of it, however long it takes; return ``False`` if that failed."""
    rest = memoryview(content)
    try:
        while rest:
            try:
                rest = rest[os.write(descriptor, rest) :]
            except BlockingIOError:  # another process set the shared terminal non-blocking
                select.select([], [descriptor], [])
    except OSError:  # disk full or broken pipe
        return False
    return True
