"""The trace that a request belongs to, by W3C Trace Context: taken, or begun, and carried into asks and events.

Spans of our own there are none, so what came in is passed on unchanged: it has no other parent.
"""

import random
import re
from contextvars import ContextVar

traceparent: ContextVar[str] = ContextVar("traceparent", default="")
"""That of the request or the event in hand; empty outside of them."""

# Four fields; of a version later than 00 more may follow, and it is passed on as 00 (section 3.2.1 to 3.2.4).
_FORM = re.compile(r"(?!ff|00.{54})[0-9a-f]{2}(-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2})(?:-.*)?")


def parse(value: str) -> str:
    """A ``traceparent`` that can be passed on; empty for one that is none."""
    found = _FORM.fullmatch(value)
    return f"00{found[1]}" if found else ""


def begin() -> str:
    """The ``traceparent`` of a new trace, which nobody samples."""
    both = f"{random.getrandbits(192):048x}"
    return f"00-{both[:32]}-{both[32:]}-00"
