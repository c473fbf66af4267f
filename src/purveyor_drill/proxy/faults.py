"""What a proxy can do to a connection: data only. Those of Toxiproxy, and swallowing an answer."""

import re
from dataclasses import dataclass
from typing import Literal

Direction = Literal["to_server", "to_client"]
Side = Literal["to_server", "to_client", "both"]
End = Literal["close", "reset", "hang"]
"""How a connection ends: FIN to both sides, RST to both, or open for ever without another byte."""


@dataclass(frozen=True, kw_only=True)
class Refuse:
    """Nobody listens: new connections are refused. Those that live go on."""


@dataclass(frozen=True, kw_only=True)
class Blackhole:
    """Connections are accepted and stay open, but nothing passes; what was sent arrives when it is lifted.

    As with a network that loses every packet, neither side hears of the other's end. Strikes once for each
    direction of each connection in which there is something to pass.
    """

    side: Side = "both"
    old_only: bool = False
    """Only connections from before it was set, as when a firewall has forgotten them."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Everything arrives ``delay_s`` seconds later, give or take up to ``jitter_s``, in order."""

    delay_s: float
    jitter_s: float = 0.0
    side: Side = "both"


@dataclass(frozen=True, kw_only=True)
class Bandwidth:
    """At most so many bytes a second, in each direction of each connection."""

    bytes_per_s: int
    side: Side = "both"


@dataclass(frozen=True, kw_only=True)
class Slicer:
    """Everything arrives in pieces of at most ``size`` bytes, ``pause_s`` seconds apart."""

    size: int = 1
    pause_s: float = 0.001
    side: Side = "both"


@dataclass(frozen=True, kw_only=True)
class SlowClose:
    """When one side ends its half of a connection, the other learns of it ``delay_s`` seconds later."""

    delay_s: float


@dataclass(frozen=True, kw_only=True)
class Reset:
    """RST to both sides of every connection: those that live at once, new ones as soon as they are accepted."""

    times: int | None = None
    """How many connections; ``None``: all, until cleared."""


@dataclass(frozen=True, kw_only=True)
class Cut:
    """End a connection after so many more bytes of one direction, counted from when the fault was set."""

    after_bytes: int
    side: Direction = "to_client"
    end: End = "close"
    times: int | None = None
    """How many connections; ``None``: all, until cleared."""


@dataclass(frozen=True, kw_only=True)
class Swallow:
    """Keep back what ``about`` finds, and end the connection when the last byte of it has come.

    With ``to_client`` that is the answer: the server has done what it was asked, and the client never knows.
    With ``to_server`` it is the request. What it can be about depends on the protocol.
    """

    about: str
    """A regular expression, searched in the name of what passes; a dot is also the end of a line."""
    side: Direction = "to_client"
    end: End = "close"
    times: int | None = 1
    """How many answers; ``None``: all, until cleared."""

    def finds(self, about: str) -> bool:
        """Whether this is what to keep back; never what has no name."""
        return bool(about) and re.search(self.about, about, re.DOTALL) is not None


Fault = Refuse | Blackhole | Latency | Bandwidth | Slicer | SlowClose | Reset | Cut | Swallow
