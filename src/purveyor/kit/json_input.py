"""JSON as other programs write it: with a byte order mark before it, and 2.0 where the integer 2 is expected."""

import json
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


def _number(text: str) -> int | float | str:
    """Read a number with a fraction or an exponent. One that is too large stays text, which no number accepts."""
    value = float(text)
    if value.is_integer() and abs(value) <= _MAX_EXACT:
        return int(value)
    return text if value in (float("inf"), float("-inf")) else value


_untyped = msgspec.json.Decoder(float_hook=_number)
