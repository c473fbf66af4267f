"""W3C Trace Context of the current request or event, and spans where ``kit.otel`` exports them.

Without an export there are no spans, and the incoming ``traceparent`` is passed on unchanged. Attributes of spans
hold no personal data.
"""

import random
import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from datetime import datetime
from types import TracebackType
from typing import Literal

traceparent: ContextVar[str] = ContextVar("traceparent", default="")
"""The trace of the current request or event; empty outside of them."""

Kind = Literal["server", "client", "producer", "consumer", "internal"]
Attributes = Mapping[str, str | int]

# Later versions than 00 may have more than four fields and are passed on as 00 (sections 3.2.1 to 3.2.4).
_FORM = re.compile(r"(?!ff|00.{54})[0-9a-f]{2}(-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(?:-.*)?")


def parse(value: str) -> str:
    """Return the ``traceparent`` to pass on; empty for an invalid one."""
    found = _FORM.fullmatch(value)
    return f"00{found[1]}" if found else ""


def begin() -> str:
    """Start a new, unsampled trace."""
    both = f"{random.getrandbits(192):048x}"
    return f"00-{both[:32]}-{both[32:]}-00"


def trace_id() -> str:
    """Return the ID of the current trace; empty outside of one."""
    return traceparent.get()[3:35]


class Span:
    """A span that is not recorded. As a context manager it is the current one."""

    __slots__ = ("_token", "traceparent")
    is_recorded = False

    def __init__(self, traceparent: str = "") -> None:
        self.traceparent = traceparent
        """Its context, to be passed on; empty if the context stays as it is."""
        self._token: Token[str] | None = None

    def rename(self, name: str) -> None:
        """Replace the name."""

    def add(self, attributes: Attributes) -> None:
        """Add attributes."""

    def fail(self, error: BaseException | str) -> None:
        """Mark the span as failed with the type of an error. Its text may hold personal data and is left out."""

    def end(self) -> None:
        """End the span. One that is never ended is not exported."""

    def __enter__(self) -> "Span":
        if self.traceparent:
            self._token = traceparent.set(self.traceparent)
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.fail(error)
        self.end()
        if self._token is not None:
            traceparent.reset(self._token)


NO_SPAN = Span()

_start: Callable[..., Span] | None = None


def start_with(start: Callable[..., Span] | None) -> None:
    """Have ``span`` call this function from now on; with ``None`` there are no spans."""
    global _start  # noqa: PLW0603 - one per process, as with the metrics
    _start = start


def span(
    name: str,
    kind: Kind,
    attributes: Attributes,
    *,
    parent: str | None = None,
    again: bool = False,
    since: datetime | None = None,
) -> Span:
    """Start a span below ``parent``, by default below the current one.

    A retry or a replay (``again``), and what happens more than an hour after ``since``, begins a new trace with a
    link to ``parent``. Without a parent, only servers and consumers begin a trace.
    """
    if _start is None:
        return NO_SPAN
    parent = traceparent.get() if parent is None else parent
    return _start(name, kind, attributes, parent=parent, again=again, since=since)
