"""The OpenTelemetry SDK behind ``kit.tracing``: spans, sampling, and their export by OTLP over HTTP.

Slow to import, and installed only with the extra ``otel``: imported only where traces are exported. The SDK reads
the standard ``OTEL_*`` variables of the environment itself.
"""

import logging
import os
import threading
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON, ParentBased, Sampler, SamplingResult
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    set_span_in_context,
)
from opentelemetry.trace import Span as OtelSpan

from purveyor import __version__
from purveyor.kit.clock import now
from purveyor.kit.errors import Problem
from purveyor.kit.tracing import NO_SPAN, Attributes, Kind, Span, parse

log = logging.getLogger(__name__)

_PARENT_FOR = timedelta(hours=1)
"""Time after an event in which a span is still part of its trace."""
_FLUSH_S = 2.0
_CHECK_S = 2.0
_KINDS: dict[Kind, SpanKind] = {
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "internal": SpanKind.INTERNAL,
}
_ENTRIES = ("server", "consumer")
"""Kinds that begin a trace where there is none, and whose parent is in another process."""
_SERVER_ERROR = 500


class RecordedSpan(Span):
    """A span that is exported once it has ended."""

    __slots__ = ("_span",)
    is_recorded = True

    def __init__(self, traceparent: str, span: OtelSpan) -> None:
        super().__init__(traceparent)
        self._span = span

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def add(self, attributes: Attributes) -> None:
        self._span.set_attributes(attributes)

    def fail(self, error: BaseException | str) -> None:
        if isinstance(error, Problem) and error.status < _SERVER_ERROR:
            return  # an answer of the domain, such as not-found
        self._span.set_status(StatusCode.ERROR)
        self._span.set_attribute("error.type", error if isinstance(error, str) else type(error).__name__)

    def end(self) -> None:
        self._span.end()


class Tracing:
    """Starts the spans of this process, and sends them to the collector.

    ``service`` is the service's name unless a variable gives one.
    """

    def __init__(self, service: str, roles: Sequence[str]) -> None:
        resource = Resource.create({SERVICE_VERSION: __version__, "purveyor.roles": ",".join(roles)})
        if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = resource.merge(Resource({SERVICE_NAME: service}))
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        # With these samplers, nothing below an unsampled span is sampled. To ask them costs 10 us a span.
        self._follows_parent = isinstance(provider.sampler, ParentBased)
        if self._follows_parent:
            provider.sampler = _LinkSampler(provider.sampler)
        self._sender = _Sender()
        provider.add_span_processor(self._sender)
        self._tracer = provider.get_tracer("purveyor", __version__)
        silence()

    def start(
        self, name: str, kind: Kind, attributes: Attributes, *, parent: str, again: bool, since: datetime | None
    ) -> Span:
        """Start a span as ``tracing.span`` says."""
        parent = parse(parent)
        if not parent and kind not in _ENTRIES:
            return NO_SPAN
        if parent and self._follows_parent and not _is_sampled(parent):
            return Span(parent)
        context, links = Context(), []
        if parent:
            origin = _context_of(parent, is_remote=kind in _ENTRIES)
            if again or (since is not None and now() - since > _PARENT_FOR):
                links.append(Link(origin))
            else:
                context = set_span_in_context(NonRecordingSpan(origin), context)
        span = self._tracer.start_span(name, context, _KINDS[kind], attributes, links)
        made = span.get_span_context()
        traceparent = f"00-{made.trace_id:032x}-{made.span_id:016x}-{made.trace_flags:02x}"
        return RecordedSpan(traceparent, span) if span.is_recording() else Span(traceparent)

    def close(self) -> None:
        """Send what waits, within 2 s."""
        self._sender.close()


def silence() -> None:
    """Turn off the SDK's log lines: it writes several for each batch that a collector does not take."""
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)


def takes_traces() -> bool:
    """Return whether the collector takes an empty export within 2 s."""
    silence()
    return OTLPSpanExporter(timeout=_CHECK_S).export([]) is SpanExportResult.SUCCESS


class _LinkSampler(Sampler):
    """Samples a new trace that links to a sampled one. All others are up to the configured sampler."""

    def __init__(self, configured: Sampler) -> None:
        self._configured = configured

    def should_sample(  # noqa: PLR0917 - the signature of the SDK
        self,
        parent_context: Context | None,
        trace_id: int,
        name: str,
        kind: SpanKind | None = None,
        attributes: Any = None,
        links: Sequence[Link] | None = None,
        trace_state: Any = None,
    ) -> SamplingResult:
        sampler = ALWAYS_ON if links else self._configured
        return sampler.should_sample(parent_context, trace_id, name, kind, attributes, links, trace_state)

    def get_description(self) -> str:
        return self._configured.get_description()


class _Sender(SpanProcessor):
    """Sends spans from a thread. Drops them where the collector is away or slow, so that no work ever waits.

    The SDK's ``BatchSpanProcessor`` starts its thread anew in every forked child. Before exec, that keeps
    the embedded PostgreSQL from entering its user namespace, which the kernel allows only in a single thread.
    """

    def __init__(self) -> None:
        self._exporter = OTLPSpanExporter()
        self._delay_s = _number("OTEL_BSP_SCHEDULE_DELAY", 5000) / 1000
        self._batch = _number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512)
        self._room = _number("OTEL_BSP_MAX_QUEUE_SIZE", 2048)
        self._spans: deque[ReadableSpan] = deque()
        self._wake = threading.Event()
        self._closing = self._fails = False
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._thread.start()

    def on_end(self, span: ReadableSpan) -> None:
        if len(self._spans) < self._room:
            self._spans.append(span)
        if len(self._spans) == self._batch:
            self._wake.set()

    def close(self) -> None:
        self._closing = True
        self._wake.set()
        self._thread.join(_FLUSH_S)  # as a daemon it may go on until the process ends
        self._exporter.shutdown()  # type: ignore[no-untyped-call]

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(self._delay_s)
            self._wake.clear()
            while self._spans:
                self._send([self._spans.popleft() for _ in range(min(self._batch, len(self._spans)))])

    def _send(self, spans: Sequence[ReadableSpan]) -> None:
        fails = self._exporter.export(spans) is not SpanExportResult.SUCCESS
        if fails and not self._fails:
            log.warning("traces are dropped: the collector does not take them. Check OTEL_EXPORTER_OTLP_ENDPOINT")
        elif self._fails and not fails:
            log.info("traces are exported again")
        self._fails = fails


def _number(variable: str, default: int) -> int:
    """A positive number from the environment. Raises ``ValueError``."""
    number = int(os.environ.get(variable) or default)
    if number <= 0:
        raise ValueError(f"{variable} must be positive")
    return number


def _is_sampled(traceparent: str) -> bool:
    return bool(int(traceparent[53:55], 16) & TraceFlags.SAMPLED)


def _context_of(traceparent: str, *, is_remote: bool) -> SpanContext:
    return SpanContext(
        int(traceparent[3:35], 16),
        int(traceparent[36:52], 16),
        is_remote=is_remote,
        trace_flags=TraceFlags(int(traceparent[53:55], 16)),
    )
