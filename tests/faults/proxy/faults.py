"""The faults beyond those of the drill: the rest of Toxiproxy's, and swallowing an answer."""

import re
from dataclasses import dataclass
from typing import Literal

from purveyor_drill import proxy
from purveyor_drill.proxy import Direction, End, Fault

Side = Literal["to_server", "to_client", "both"]


@dataclass(frozen=True, kw_only=True)
class Blackhole(proxy.Blackhole):
    """Strikes once for each direction of each connection in which there is something to pass."""

    side: Side = "both"
    old_only: bool = False
    """Only connections that are older than the fault, as after a firewall has lost its state."""


@dataclass(frozen=True, kw_only=True)
class Latency(proxy.Latency):
    side: Side = "both"


@dataclass(frozen=True, kw_only=True)
class Reset(proxy.Reset):
    times: int | None = None
    """How many connections; ``None``: all."""


@dataclass(frozen=True, kw_only=True)
class Bandwidth(Fault):
    """At most so many bytes a second, in each direction of each connection."""

    bytes_per_s: int
    side: Side = "both"


@dataclass(frozen=True, kw_only=True)
class Slicer(Fault):
    """Everything arrives in pieces of at most ``size`` bytes, ``pause_s`` seconds apart."""

    size: int = 1
    pause_s: float = 0.001
    side: Side = "both"


@dataclass(frozen=True, kw_only=True)
class SlowClose(Fault):
    """When one side ends its half of a connection, the other learns of it ``delay_s`` seconds later."""

    delay_s: float


@dataclass(frozen=True, kw_only=True)
class Cut(Fault):
    """End a connection after so many more bytes of one direction, counted from when the fault was set."""

    after_bytes: int
    side: Direction = "to_client"
    end: End = "close"
    times: int | None = None
    """How many connections; ``None``: all."""


@dataclass(frozen=True, kw_only=True)
class Swallow(Fault):
    """Withhold what ``about`` finds, and end the connection when its last byte has come.

    With ``to_client`` that is the answer: the server has done what it was asked, and the client never knows.
    With ``to_server`` it is the request. What it can be about depends on the protocol.
    """

    about: str
    """A regular expression, searched in the name of what passes; a dot also matches the end of a line."""
    side: Direction = "to_client"
    end: End = "close"
    times: int | None = 1
    """How many answers; ``None``: all."""

    def finds(self, about: str) -> bool:
        """Whether to withhold this; never what has no name."""
        return bool(about) and re.search(self.about, about, re.DOTALL) is not None
