"""Reading the properties of messages that others made, however odd: a message costs no one the connection.

The server passes on what a publisher wrote. The client (pamqp 4.0, ``BasicProperties.unmarshal``) raises on a
timestamp beyond the year 9999 (microseconds are enough), on a short string or a header's name that is not UTF-8,
and on tables nested too deep; it does so where all frames of a connection are read, so that the connection ends
and the server delivers the same message again, for ever (aiormq issue 186). There is no hook: ``install`` puts
``read`` in the place of that one function, in this process.
"""

import logging
import struct
from collections.abc import Callable, Mapping
from typing import Any

from pamqp import base, commands, common, decode, encode

log = logging.getLogger(__name__)

_Reader = Callable[[bytes], tuple[int, Any]]

_SHORT_BYTES = 255
"""The longest short string (AMQP 0-9-1 section 4.2.5.3)."""
_DEEPEST = 8
_CARRIED_BYTES = 64 * 1024
"""Headers travel in one frame of at most 128 KiB, which must have room for ours."""


def install() -> None:
    """Read properties with ``read`` from now on. Calling it again changes nothing."""
    commands.Basic.Properties.unmarshal = read  # type: ignore[method-assign, assignment]  # it is the purpose


def read(properties: base.BasicProperties, flags: int, data: bytes) -> None:
    """Set the properties that the flags name; what cannot be read is ``None`` or an empty table. Never raises."""
    for name in properties.attributes():
        if flags & properties.flags[name]:
            try:
                consumed, value = _READERS[properties.amqp_type(name)](data)
            except (ValueError, struct.error) as error:  # cut off: where the next one begins is unknown
                log.warning("message property cannot be read", extra={"property": name, "reason": str(error)})
                return
            # The client's message knows no other delivery mode, and refuses to be made with one.
            setattr(properties, name, None if name == "delivery_mode" and value not in (1, 2) else value)
            data = data[consumed:]


def carried(headers: Mapping[str, Any]) -> dict[str, Any]:
    """The headers that a copy of a message can have: those that can be written again, up to 64 KiB in all."""
    room, kept = _CARRIED_BYTES, {}
    for name, value in headers.items():
        try:
            size = len(encode.field_table({name: value}))
        except (TypeError, ValueError, OverflowError, struct.error) as error:
            log.info("message header is left behind", extra={"header": name, "reason": str(error)})
            continue
        if size <= room:
            room -= size
            kept[name] = value
    return kept


def _short_string(data: bytes) -> tuple[int, str]:
    end = 1 + data[0] if data else 1
    return end, _text(data[1:end])


def _text(raw: bytes) -> str:
    """UTF-8, else each byte a character (Latin-1), so that other bytes stay another text; it can be sent again."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1").encode()[:_SHORT_BYTES].decode("utf-8", "ignore")


def _long_string(data: bytes) -> tuple[int, str | bytearray]:
    """Bytes that are no text as the array of bytes that the client can also write."""
    consumed, value = decode.long_str(data)
    return consumed, value if isinstance(value, str) else bytearray(value)


def _timestamp(data: bytes) -> tuple[int, Any]:
    try:
        return decode.timestamp(data)
    except (ValueError, OverflowError, OSError):
        return 8, None


def _table(data: bytes, depth: int = 0) -> tuple[int, dict[str, Any]]:
    end, offset, table = _end(data), 4, dict[str, Any]()
    while depth < _DEEPEST and offset < end:
        consumed, name = _short_string(data[offset:])
        offset += consumed
        consumed, table[name] = _item(data[offset:end], depth)
        offset += consumed
    return end, table


def _array(data: bytes, depth: int = 0) -> tuple[int, list[Any]]:
    end, offset, array = _end(data), 4, list[Any]()
    while depth < _DEEPEST and offset < end:
        consumed, value = _item(data[offset:end], depth)
        offset += consumed
        array.append(value)
    return end, array


def _item(data: bytes, depth: int) -> tuple[int, Any]:
    kind, rest = data[:1], data[1:]
    if kind in _NESTED:
        consumed, value = _NESTED[kind](rest, depth + 1)
    elif kind in _ITEMS:
        consumed, value = _ITEMS[kind](rest)
    else:
        raise ValueError(f"a value of an unknown type {kind!r}")
    return 1 + consumed, value


def _end(data: bytes) -> int:
    end = 4 + int(common.Struct.integer.unpack(data[:4])[0])
    if end > len(data):
        raise ValueError("a table or array is longer than what it is in")
    return end


_NESTED: dict[bytes, Callable[[bytes, int], tuple[int, Any]]] = {b"F": _table, b"A": _array}
_ITEMS: dict[bytes, _Reader] = dict(decode.TABLE_MAPPING) | {b"S": _long_string, b"T": _timestamp}
_READERS: dict[str, _Reader] = dict(decode.METHODS) | {
    "shortstr": _short_string,
    "table": _table,
    "timestamp": _timestamp,
}
