"""JSON as other programs write it: with a byte order mark before it, and 2.0 where the integer 2 is expected."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_MAX_EXACT = 2**53
_decoders: dict[object, msgspec.json.Decoder[Any]] = {}

UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""Raised for a body that is not JSON. ``msgspec.ValidationError``, a ``DecodeError``, says a value is wrong."""


def decode_json(body: bytes, target: Any) -> Any:
    """Decode JSON strictly as ``target``. Raises ``msgspec.ValidationError``, or another of ``UNREADABLE``."""
    body = body.removeprefix(_BYTE_ORDER_MARK)
    decoder = _decoders.get(target)
    if decoder is None:
        decoder = _decoders[target] = msgspec.json.Decoder(target)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError:
        return msgspec.convert(_untyped.decode(body), target)


def decode_untyped(body: bytes) -> Any:
    """The same value without a type; ``None`` if a number has too many digits. Raises one of ``UNREADABLE``."""
    body = body.removeprefix(_BYTE_ORDER_MARK)
    try:
        return _untyped.decode(body)
    except msgspec.ValidationError:
        with suppress(ValueError):  # more digits than the interpreter reads
            return json.loads(body)
        return None


class _Object(dict[str, Any]):
    """An object of which some members came more than once."""

    repeated: list[str]


def repeated_members(body: bytes) -> list[tuple[str | int, ...]]:
    """The paths of members that their object holds more than once; none for a body that cannot be read.

    Decoders silently take the first or the last of them, so two programs may read two different amounts.
    """
    found = []

    def read(members: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(members)
        if len(value) == len(members):
            return value
        marked = _Object(value)
        marked.repeated = [name for name, count in Counter(name for name, _ in members).items() if count > 1]
        found.append(marked)
        return marked

    with suppress(ValueError, RecursionError):
        value = json.loads(body.removeprefix(_BYTE_ORDER_MARK), object_pairs_hook=read)
        if found:
            return list(_repeated_in(value))
    return []


def _repeated_in(root: Any) -> Iterator[tuple[str | int, ...]]:
    waiting: list[tuple[tuple[str | int, ...], Any]] = [((), root)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, _Object):
            yield from ((*path, name) for name in value.repeated)
        if isinstance(value, dict):
            waiting += (((*path, name), member) for name, member in value.items())
        elif isinstance(value, list):
            waiting += (((*path, place), item) for place, item in enumerate(value))


def _number(text: str) -> int | float | str:
    """Read a number with a fraction or an exponent. One that is too large stays text, which no number accepts."""
    value = float(text)
    if value.is_integer() and abs(value) <= _MAX_EXACT:
        return int(value)
    return text if value in (float("inf"), float("-inf")) else value


_untyped = msgspec.json.Decoder(float_hook=_number)
