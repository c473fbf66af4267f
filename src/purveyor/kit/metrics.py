"""The metrics of ``GET /metrics`` (Prometheus text format)."""

from collections.abc import Awaitable, Callable, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

disable_created_metrics()  # type: ignore[no-untyped-call]  # a line per series, of no use to Prometheus
REGISTRY = CollectorRegistry()
"""Metrics of this process."""
SHARED = CollectorRegistry()
"""Gauges of work that waits on servers: measured at a scrape, and the same for every process of a role."""

Measure = Callable[[], Awaitable[Mapping[str, float]]]
"""Measures a gauge of ``SHARED``; returns its values by its label."""

HTTP_REQUESTS = Counter(
    "purveyor_http_requests", "Requests answered.", ["method", "route", "status"], registry=REGISTRY
)
HTTP_SECONDS = Histogram(
    "purveyor_http_request_seconds",
    "Seconds from the request's head to the end of the answer.",
    ["route"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
    registry=REGISTRY,
)
OUTBOX_UNPUBLISHED = Gauge(
    "purveyor_outbox_unpublished_events", "Events that wait for the relay.", ["schema"], registry=REGISTRY
)
OUTBOX_OLDEST_SECONDS = Gauge(
    "purveyor_outbox_oldest_event_seconds", "Age of the oldest waiting event.", ["schema"], registry=REGISTRY
)
OUTBOX_FULL = Gauge(
    "purveyor_outbox_full",
    "1 while nothing more is taken on because too much waits.",
    ["schema"],
    registry=REGISTRY,
)
EVENTS_PUBLISHED = Counter(
    "purveyor_events_published", "Events handed to the transport.", ["type", "outcome"], registry=REGISTRY
)
OUTLET_PUBLISHED = Counter(
    "purveyor_outlet_published", "Events handed to the outlet.", ["type", "outcome"], registry=REGISTRY
)
OUTLET_WAITING = Gauge(
    "purveyor_outlet_waiting_events", "Events that wait for the outlet.", ["role"], registry=SHARED
)
OUTLET_OLDEST_SECONDS = Gauge(
    "purveyor_outlet_oldest_event_seconds", "Age of the oldest event that waits for it.", ["role"], registry=SHARED
)
EVENTS_UNACCOUNTED = Gauge(
    "purveyor_events_unaccounted",
    "Published events of which role email has no record, dead letters excluded.",
    registry=REGISTRY,
)
EVENTS_HANDLED = Counter(
    "purveyor_events_handled", "Events delivered to a handler.", ["queue", "outcome"], registry=REGISTRY
)
EVENTS_WAITING = Gauge(
    "purveyor_events_waiting", "Events that wait in a queue or for their next attempt.", ["queue"], registry=SHARED
)
HANDLER_SECONDS = Histogram(
    "purveyor_event_handler_seconds",
    "Seconds that a handler took for one delivery of an event.",
    ["queue"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
    registry=REGISTRY,
)
MAILS_WAITING = Gauge(
    "purveyor_mails_waiting",
    "Mails that are not sent yet: due now, due later, or claimed by a sender.",
    ["state"],
    registry=SHARED,
)
ORDER_TO_MAIL_SECONDS = Histogram(
    "purveyor_order_to_mail_seconds",
    "Seconds from an order until the mail server accepted its confirmation.",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600),
    registry=REGISTRY,
)
STANDBY_READS = Counter(
    "purveyor_standby_reads",
    "Reads that a standby could answer, by the server that did.",
    ["schema", "server"],
    registry=REGISTRY,
)
DATABASE_CONNECTIONS = Gauge(
    "purveyor_database_connections", "Open connections of a pool.", ["schema", "state"], registry=REGISTRY
)
DATABASE_CONNECTIONS_MAX = Gauge(
    "purveyor_database_connections_max", "Most connections that a pool opens.", ["schema"], registry=REGISTRY
)
MAILS = Counter("purveyor_mails", "Mails by what became of them.", ["kind", "state"], registry=REGISTRY)
TASK_DEATHS = Counter(
    "purveyor_task_deaths", "Background tasks that died and were restarted.", ["task"], registry=REGISTRY
)
REQUESTS_SHED = Counter(
    "purveyor_requests_shed", "Requests turned away before any work.", ["method"], registry=REGISTRY
)
REQUESTS_WAITED = Histogram(
    "purveyor_request_wait_seconds",
    "Seconds that requests waited for their turn; only of those that had to.",
    buckets=(0.01, 0.05, 0.1, 0.25, 0.5, 1),
    registry=REGISTRY,
)
CONNECTIONS_CUT = Counter(
    "purveyor_connections_cut", "Connections closed before an answer.", ["reason"], registry=REGISTRY
)
LOG_LINES_DROPPED = Counter(
    "purveyor_log_lines_dropped", "Log lines that could not be written in time.", registry=REGISTRY
)
