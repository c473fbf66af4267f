"""A TCP proxy on the loopback that spoils connections on command, while they live."""

from purveyor_drill.proxy.faults import (
    Bandwidth,
    Blackhole,
    Cut,
    Fault,
    Latency,
    Refuse,
    Reset,
    Slicer,
    SlowClose,
    Swallow,
)
from purveyor_drill.proxy.listener import Proxy

__all__ = [
    "Bandwidth",
    "Blackhole",
    "Cut",
    "Fault",
    "Latency",
    "Proxy",
    "Refuse",
    "Reset",
    "Slicer",
    "SlowClose",
    "Swallow",
]
