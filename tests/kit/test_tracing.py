"""Spans, and their export to a collector."""

import importlib.util
import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import timedelta
from subprocess import run

import pytest

from collector import Collector, collecting
from purveyor.kit import otel, tracing
from purveyor.kit.clock import now
from purveyor.kit.errors import NotFound, Unavailable
from waiting import wait_until

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"}

Export = Callable[..., AbstractContextManager[None]]


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as made:
        yield made


@pytest.fixture
def export(collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Export:
    """Exports to the collector with these variables too."""

    def exporting(**more: str) -> AbstractContextManager[None]:
        variables = collector.variables | more
        for name, value in variables.items():
            monkeypatch.setenv(name, value)  # to be undone: the export sets them for the SDK
        return otel.exporting(variables, service="purveyor-test", roles=["test"])

    return exporting


def begun(kind: tracing.Kind = "consumer", **options: object) -> str:
    """Begin and end a span; its ``traceparent``."""
    with tracing.span("work", kind, {}, **options) as span:  # type: ignore[arg-type]
        return span.traceparent


def test_without_variables_no_sdk_is_loaded_and_a_span_is_nothing() -> None:
    code = (
        "import sys; from purveyor.kit import otel, tracing\n"
        "with otel.exporting({}, service='x', roles=[]):\n"
        "    assert tracing.span('work', 'server', {}) is tracing.NO_SPAN\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("variables", "wanted"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "shop", "OTEL_TRACES_SAMPLER": "always_on"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://127.0.0.1:4318/v1/traces"}, True),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, False),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_traces_are_wanted_where_an_endpoint_is_set(variables: dict[str, str], *, wanted: bool) -> None:
    assert otel.is_wanted(variables) is wanted


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        (ENDPOINT, ""),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ""),
        (ENDPOINT | {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4317"}, "OTEL_EXPORTER_OTLP_ENDPOINT must start with http://"),
    ],
)
def test_what_keeps_traces_from_being_exported_is_named(variables: dict[str, str], named: str) -> None:
    assert named in otel.obstacle(variables)
    assert bool(named) is bool(otel.obstacle(variables))


def test_missing_extra_is_one_warning_and_the_process_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def find_nothing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(importlib.util, "find_spec", find_nothing)
    with otel.exporting(ENDPOINT, service="x", roles=[]):
        assert tracing.span("work", "server", {}) is tracing.NO_SPAN

    (line,) = [record.getMessage() for record in caplog.records]
    assert "OTEL_EXPORTER_OTLP_ENDPOINT is set" in line
    assert "purveyor[otel]" in line


def test_value_that_the_sdk_refuses_is_a_warning(export: Export, caplog: pytest.LogCaptureFixture) -> None:
    with export(OTEL_BSP_MAX_QUEUE_SIZE="-1"):
        assert tracing.span("work", "server", {}) is tracing.NO_SPAN

    assert "Traces are not exported" in caplog.text


def test_spans_are_nested_and_passed_on(export: Export, collector: Collector) -> None:
    with export(OTEL_BSP_SCHEDULE_DELAY="60000"):  # so it is the end that sends them
        with tracing.span("outer", "server", {"http.route": "/orders"}, parent=SAMPLED) as outer:
            assert tracing.traceparent.get() == outer.traceparent
            with tracing.span("inner", "internal", {}) as inner:
                assert tracing.traceparent.get() == inner.traceparent
        assert tracing.traceparent.get() == ""

    by_name = {span.name: span for span in collector.spans}
    assert collector.paths == {"/v1/traces"}
    assert {span.trace_id for span in collector.spans} == {TRACE}
    assert (by_name["outer"].parent_id, by_name["inner"].parent_id) == (SPAN, by_name["outer"].span_id)
    assert (by_name["outer"].kind, by_name["inner"].kind) == ("server", "internal")
    assert by_name["outer"].attributes == {"http.route": "/orders"}
    assert by_name["outer"].service == "purveyor-test"


@pytest.mark.parametrize("variable", ["OTEL_SERVICE_NAME=shop", "OTEL_RESOURCE_ATTRIBUTES=service.name=shop"])
def test_service_has_the_name_that_a_variable_gives(export: Export, collector: Collector, variable: str) -> None:
    name, _, value = variable.partition("=")
    with export(**{name: value}):
        begun()

    assert [span.service for span in collector.spans] == ["shop"]


@pytest.mark.parametrize(
    ("options", "linked"),
    [
        ({}, False),
        ({"since": now()}, False),
        ({"again": True}, True),
        ({"since": now() - timedelta(hours=2)}, True),
    ],
)
def test_retries_and_late_work_begin_a_trace_with_a_link(
    export: Export, collector: Collector, options: dict[str, object], *, linked: bool
) -> None:
    with export(OTEL_TRACES_SAMPLER="parentbased_traceidratio", OTEL_TRACES_SAMPLER_ARG="0"):
        begun(parent=SAMPLED, **options)

    (span,) = collector.spans  # also with a link: sampled as the trace that it links to
    assert (span.trace_id != TRACE) is linked
    assert span.parent_id == ("" if linked else SPAN)
    assert span.links == ([(TRACE, SPAN)] if linked else [])


@pytest.mark.parametrize("options", [{}, {"again": True}])
def test_below_an_unsampled_span_nothing_is_recorded(
    export: Export, collector: Collector, options: dict[str, object]
) -> None:
    with export():
        assert begun(parent=UNSAMPLED, **options) == UNSAMPLED

    assert collector.spans == []


def test_sampler_without_regard_to_the_parent_is_asked(export: Export, collector: Collector) -> None:
    with export(OTEL_TRACES_SAMPLER="always_on"):
        assert begun(parent=UNSAMPLED).endswith("1")

    assert [span.trace_id for span in collector.spans] == [TRACE]


def test_only_servers_and_consumers_begin_a_trace(export: Export, collector: Collector) -> None:
    kinds: tuple[tracing.Kind, ...] = ("server", "consumer", "client", "producer", "internal")
    with export():
        begin = {(kind, parent) for kind in kinds for parent in ("", "00-1") if begun(kind, parent=parent)}

    assert begin == {(kind, parent) for kind in ("server", "consumer") for parent in ("", "00-1")}
    assert len(collector.spans) == len(begin)


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (NotFound("no order of ann@example.org"), None),
        (Unavailable("no answer for ann@example.org"), "Unavailable"),
        (ValueError("ann@example.org"), "ValueError"),
    ],
)
def test_failed_span_names_the_type_of_the_error_alone(
    export: Export, collector: Collector, error: Exception, shown: str | None
) -> None:
    with export(), pytest.raises(type(error)), tracing.span("work", "server", {}):
        raise error

    (span,) = collector.spans
    assert span.failed is (shown is not None)
    assert span.attributes == ({"error.type": shown} if shown else {})


def test_collector_that_is_away_is_one_warning_until_it_is_back(
    export: Export, collector: Collector, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def logged(text: str) -> bool:
        return text in caplog.text

    collector.is_away = True
    with export(OTEL_BSP_SCHEDULE_DELAY="1"):
        begun()
        wait_until(lambda: logged("traces are dropped"))
        for _ in range(3):
            begun()
        collector.is_away = False

        def is_back() -> bool:
            begun()
            return logged("traces are exported again")

        wait_until(is_back)

    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "traces are dropped",
        "traces are exported again",
    ]
