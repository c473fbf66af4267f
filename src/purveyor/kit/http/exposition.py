"""The text of ``GET /metrics``."""

import asyncio
import logging
import time
from collections.abc import Iterable, Mapping

from prometheus_client import Gauge, Metric, generate_latest
from prometheus_client.registry import Collector

from purveyor.kit.metrics import REGISTRY, SHARED, Measure
from purveyor.kit.process.siblings import Siblings

log = logging.getLogger(__name__)

_MEASURE_S = 2.0
_CACHED_S = 1.0


class _Collected(Collector):
    """Metrics that were collected before, in the form that ``generate_latest`` takes."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        return self._metrics


class CachedMetrics:
    """Measures and collects once a second at most, so that frequent scrapes cost nothing.

    ``measures`` are the gauges that have to ask a server. One that is not measured within 2 s has no value then.
    With ``siblings``, the metrics of the other workers are included.
    """

    def __init__(self, measures: Mapping[Gauge, Measure], siblings: Siblings | None = None) -> None:
        self._measures = measures
        self._siblings = siblings
        self._collecting = asyncio.Lock()
        self._text = b""
        self._until = 0.0

    async def text(self) -> bytes:
        """Metrics in the text format of Prometheus, at most a second old."""
        async with self._collecting:
            if time.monotonic() >= self._until:
                self._text = await self._collect()
                self._until = time.monotonic() + _CACHED_S
            return self._text

    async def _collect(self) -> bytes:
        await asyncio.gather(*(_measure(*each) for each in self._measures.items()))
        counted = await self._siblings.metrics() if self._siblings else REGISTRY.collect()
        return generate_latest(_Collected([*counted, *SHARED.collect()]))


async def _measure(gauge: Gauge, measure: Measure) -> None:
    values: Mapping[str, float] = {}
    try:
        async with asyncio.timeout(_MEASURE_S):
            values = await measure()
    except Exception as error:
        log.info("not measured", extra={"metric": str(gauge), "reason": str(error) or type(error).__name__})
    gauge.clear()  # no value is better than an old one
    for label, value in values.items():
        gauge.labels(label).set(value)
