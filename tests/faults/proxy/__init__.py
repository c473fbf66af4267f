"""The drill's proxy with all faults: those that need to know where an answer begins are for tests only."""

from faults.proxy.faults import Bandwidth, Blackhole, Cut, Latency, Reset, Slicer, SlowClose, Swallow
from faults.proxy.proxy import Proxy
from purveyor_drill.proxy import Fault, Refuse

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
