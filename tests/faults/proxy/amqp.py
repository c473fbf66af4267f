"""How AMQP 0-9-1 names what passes: see its specification, sections 1.8 and 2.3."""

import struct
from collections.abc import Iterator
from typing import Final

from faults.proxy.conversation import Piece
from faults.proxy.framing import Framing

_METHODS: Final = {
    (10, 30): "connection.tune",
    (10, 50): "connection.close",
    (20, 10): "channel.open",
    (20, 40): "channel.close",
    (60, 30): "basic.cancel",
    (60, 40): "basic.publish",
    (60, 50): "basic.return",
    (60, 60): "basic.deliver",
    (60, 71): "basic.get-ok",
    (60, 80): "basic.ack",
    (60, 90): "basic.reject",
    (60, 120): "basic.nack",
    (85, 10): "confirm.select",
}
_METHOD_FRAME, _HEARTBEAT_FRAME = 1, 8
_ARGUMENTS = 11  # type, channel, size, class and method stand before them
_SETTLING = ("basic.ack", "basic.nack", "basic.reject")
_MOST_UNSETTLED = 10_000


class Amqp:
    """A piece is about a method and the routing key, such as ``basic.ack order.created``, or ``heartbeat``.

    To the client, ``basic.ack`` is a publisher's confirm; to the server it is a consumer's acknowledgement.
    One for several messages is about all of them.
    """

    def __init__(self) -> None:
        self._sent, self._received = Framing(_client_frame), Framing(_frame)
        self._published, self._delivered = _Unsettled(), _Unsettled()

    def to_server(self, data: bytes) -> Iterator[Piece]:
        """See ``Conversation``."""
        for frame in self._sent.feed(data):
            yield Piece(frame.data, self._about_sent(frame.data) if frame.first else "")

    def to_client(self, data: bytes) -> Iterator[Piece]:
        """See ``Conversation``."""
        for frame in self._received.feed(data):
            yield Piece(frame.data, self._about_received(frame.data) if frame.first else "")

    def _about_sent(self, frame: bytes) -> str:
        method, channel = _method(frame), _channel(frame)
        if method == "basic.publish":
            _, rest = _short_text(frame[_ARGUMENTS + 2 :])  # a reserved short integer, then the exchange
            key, _ = _short_text(rest)
            self._published.add(channel, key)
            return f"{method} {key}"
        if method == "channel.open":
            self._delivered.begin(channel)
        elif method == "confirm.select":
            self._published.begin(channel)  # confirms count from here
        elif method in _SETTLING:
            return f"{method} {self._delivered.settle(channel, frame)}"
        return method

    def _about_received(self, frame: bytes) -> str:
        method, channel = _method(frame), _channel(frame)
        if method in {"basic.deliver", "basic.get-ok"}:
            rest = frame[_ARGUMENTS:]
            if method == "basic.deliver":
                _, rest = _short_text(rest)  # the consumer's tag
            _, after_exchange = _short_text(rest[9:])  # the delivery's tag and the flag "redelivered"
            key, _ = _short_text(after_exchange)
            self._delivered.add(channel, key, _tag(rest))
            return f"{method} {key}"
        if method in _SETTLING:
            return f"{method} {self._published.settle(channel, frame)}"
        return method


class _Unsettled:
    """The routing keys of the messages that wait for an ack, by channel and tag."""

    def __init__(self) -> None:
        self._keys: dict[tuple[int, int], str] = {}
        self._last: dict[int, int] = {}

    def begin(self, channel: int) -> None:
        """Forget the channel's messages, and number from one again."""
        self._last[channel] = 0
        for place in [place for place in self._keys if place[0] == channel]:
            del self._keys[place]

    def add(self, channel: int, key: str, tag: int = 0) -> None:
        """A message; without a tag it gets the next one."""
        self._last[channel] = tag or self._last.get(channel, 0) + 1
        self._keys[channel, self._last[channel]] = key
        if len(self._keys) > _MOST_UNSETTLED:
            del self._keys[next(iter(self._keys))]  # nobody settles on this channel

    def settle(self, channel: int, frame: bytes) -> str:
        """The routing keys of what a frame settles, with spaces between."""
        arguments = frame[_ARGUMENTS:]
        tag, multiple = _tag(arguments), _method(frame) != "basic.reject" and bool(arguments[8] & 1)
        settled = [
            place
            for place in self._keys
            if place[0] == channel and (place[1] == tag or (multiple and (place[1] < tag or not tag)))
        ]
        return " ".join(self._keys.pop(place) for place in settled)


def _frame(pending: bytearray) -> int | None:
    return 8 + int.from_bytes(pending[3:7], "big") if len(pending) >= 7 else None


def _client_frame(pending: bytearray) -> int | None:
    """A client begins with ``AMQP`` and its version, in eight bytes."""
    return 8 if pending[:1] == b"A" else _frame(pending)


def _method(frame: bytes) -> str:
    if frame[0] == _METHOD_FRAME:
        number = struct.unpack_from("!HH", frame, 7)
        return _METHODS.get(number, "method {}.{}".format(*number))
    return "heartbeat" if frame[0] == _HEARTBEAT_FRAME else ""


def _channel(frame: bytes) -> int:
    return int.from_bytes(frame[1:3], "big")


def _tag(arguments: bytes) -> int:
    return int.from_bytes(arguments[:8], "big")


def _short_text(data: bytes) -> tuple[str, bytes]:
    """A text of at most 255 bytes, and what follows it."""
    end = 1 + data[0]
    return data[1:end].decode(errors="replace"), data[end:]
