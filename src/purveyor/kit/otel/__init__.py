"""Export of traces to an OpenTelemetry collector, where the standard ``OTEL_*`` variables ask for it."""

import importlib.util
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from purveyor.kit import tracing

if TYPE_CHECKING:  # slow to import, and installed only with the extra
    from purveyor.kit.otel.sdk import Tracing

log = logging.getLogger(__name__)

PREFIX = "OTEL_"
_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL = "http/protobuf"
_PACKAGE = "opentelemetry.exporter.otlp.proto.http"


def is_wanted(variables: Mapping[str, str]) -> bool:
    """Return whether the ``OTEL_*`` variables ask for traces."""
    if variables.get("OTEL_SDK_DISABLED", "").lower() == "true" or variables.get("OTEL_TRACES_EXPORTER") == "none":
        return False
    return any(variables.get(name) for name in _ENDPOINTS)


def obstacle(variables: Mapping[str, str]) -> str:
    """Say why the traces that the variables ask for cannot be exported; empty if they can."""
    endpoint = next(name for name in _ENDPOINTS if variables.get(name))
    if not variables[endpoint].startswith(("http://", "https://")):
        return f"Traces are not exported: {endpoint} must start with http:// or https://."
    protocol = next((name for name in _PROTOCOLS if variables.get(name)), "")
    if protocol and variables[protocol] != _PROTOCOL:
        return f"Traces are not exported: {protocol} must be {_PROTOCOL}, not {variables[protocol]}."
    if not _is_installed():
        return f"Traces are not exported: {endpoint} is set, but the extra is missing. Install purveyor[otel]."
    return ""


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec(_PACKAGE) is not None
    except ModuleNotFoundError:  # a package above it
        return False


@contextmanager
def exporting(variables: Mapping[str, str], *, service: str, roles: Sequence[str]) -> Iterator[None]:
    """Export the spans of this process if the variables ask for it; at the end send the rest within 2 s.

    What keeps traces from being exported is a warning in the log, and never an error.
    """
    exported = _set_up(variables, service, roles) if is_wanted(variables) else None
    if exported is None:
        yield
        return
    tracing.start_with(exported.start)
    try:
        yield
    finally:
        tracing.start_with(None)
        exported.close()


def _set_up(variables: Mapping[str, str], service: str, roles: Sequence[str]) -> "Tracing | None":
    if trouble := obstacle(variables):
        log.warning("%s", trouble)
        return None
    os.environ.update(variables)  # the SDK reads nothing else
    try:
        from purveyor.kit.otel.sdk import Tracing

        return Tracing(service, roles)
    except Exception as error:  # the SDK raises many for a value that it cannot read
        log.warning("Traces are not exported: %s", error)
        return None


def takes_traces(variables: Mapping[str, str]) -> bool:
    """Return whether the collector takes an empty export within 2 s."""
    os.environ.update(variables)
    from purveyor.kit.otel.sdk import takes_traces

    return takes_traces()
