"""W3C Trace Context of the current request, passed on to asks and events.

There are no spans of our own, so the incoming ``traceparent`` is passed on unchanged.
"""

import random
import re
from contextvars import ContextVar

traceparent: ContextVar[str] = ContextVar("traceparent", default="")
"""The trace of the current request or event; empty outside of them."""

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
