"""UUIDv7 identifiers (RFC 9562 section 5.7), which sort by creation time."""

import hashlib
import os
import threading
import time
import uuid
from datetime import datetime

_lock = threading.Lock()
_last_ms = 0
_counter = 0
_COUNTER_BITS = 12
_COUNTER_MAX = (1 << _COUNTER_BITS) - 1


def new_id() -> uuid.UUID:
    """Make a UUIDv7 that is greater than all earlier ones of this process.

    Within one millisecond ``rand_a`` counts up from a random start (RFC 9562 section 6.2, method 1). A full
    counter or a clock set back borrows from the next millisecond.
    """
    global _last_ms, _counter  # noqa: PLW0603 - the state that makes the ids monotonic
    with _lock:
        ms = time.time_ns() // 1_000_000
        if ms > _last_ms:
            _last_ms = ms
            _counter = int.from_bytes(os.urandom(1), "big")
        elif _counter < _COUNTER_MAX:
            _counter += 1
        else:
            _last_ms += 1
            _counter = int.from_bytes(os.urandom(1), "big")
        ms, counter = _last_ms, _counter
    random_bits = int.from_bytes(os.urandom(8), "big") >> 2
    return uuid.UUID(int=(ms << 80) | (0x7 << 76) | (counter << 64) | (0b10 << 62) | random_bits)


def first_id_of(moment: datetime) -> uuid.UUID:
    """Return the smallest UUIDv7 of a moment, to query an index of ids by time."""
    return uuid.UUID(int=(int(moment.timestamp() * 1000) << 80) | (0x7 << 76) | (0b10 << 62))


def stable_id(name: str, parent: uuid.UUID = uuid.NAMESPACE_URL, *, dated: bool = False) -> uuid.UUID:
    """Derive a UUIDv5 (RFC 9562 section 5.5) from a name and a parent.

    With ``dated=True``, derive a UUIDv7 with the time of the parent, which must be a UUIDv7 as well.
    """
    if not dated:
        return uuid.uuid5(parent, name)
    random_bits = int.from_bytes(hashlib.sha256(parent.bytes + name.encode()).digest()[:10], "big")
    variant_and_rest = (0b10 << 62) | (random_bits & ((1 << 62) - 1))
    return uuid.UUID(int=(parent.int >> 80 << 80) | (0x7 << 76) | (random_bits >> 68 << 64) | variant_and_rest)


def parse_id(text: str) -> uuid.UUID | None:
    """Parse a UUID in its canonical form of 36 characters; return ``None`` for anything else."""
    try:
        value = uuid.UUID(text)
    except ValueError:
        return None
    # uuid.UUID also accepts braces, URNs, misplaced hyphens, signs, underscores and non-ASCII digits
    return value if str(value) == text.lower() else None
