"""The drill's proxy, and the faults that need to know where an answer begins: for tests only."""

from faults.proxy.faults import Bandwidth, Cut, Slicer, SlowClose, Swallow
from faults.proxy.proxy import Proxy
from purveyor_drill.proxy import Blackhole, Fault, Latency, Refuse, Reset

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
