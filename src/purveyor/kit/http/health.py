"""``/health/live``, ``/health/ready`` and ``/metrics``, for load balancers and operators."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal

import msgspec
from litestar import Request, Response, get
from prometheus_client import CONTENT_TYPE_LATEST, Gauge

from purveyor.kit.http.exposition import CachedMetrics
from purveyor.kit.http.pages import html_page, wants_html
from purveyor.kit.http.routes import RouteGroup, answer
from purveyor.kit.limits.networks import parse_address
from purveyor.kit.metrics import Measure
from purveyor.kit.process.siblings import Siblings
from purveyor.kit.role import Check

_PROBE_TIMEOUT_S = 2.0
_METRICS_TYPE = CONTENT_TYPE_LATEST.partition("; charset")[0]  # Litestar adds the charset to every text
_CACHED_S = 1.0

Status = Literal["ok", "degraded", "down"]


_HEALTHY: dict[str, Any] = {
    "status": "ok",
    "roles": {"orders": {"status": "ok"}},
    "dependencies": {
        "postgres": {"status": "ok", "kind": "embedded", "roles": ["orders"], "detail": "PostgreSQL 16.4"}
    },
}
_DOWN: dict[str, Any] = {
    "status": "down",
    "roles": {"orders": {"status": "down", "detail": "postgres: no answer within 2 s"}},
    "dependencies": {
        "postgres": {
            "status": "down",
            "kind": "external",
            "roles": ["orders"],
            "detail": "no answer within 2 s",
        }
    },
}


class DependencyHealth(msgspec.Struct, omit_defaults=True):
    """A server, file or service that roles of this process depend on."""

    status: Status
    kind: str
    """``embedded`` or ``external``."""
    roles: tuple[str, ...]
    detail: str


class RoleHealth(msgspec.Struct, omit_defaults=True):
    """A role of this process. ``degraded`` means that it works without one of its dependencies."""

    status: Status
    detail: str = ""


class Health(msgspec.Struct):
    """Health of the process."""

    status: Status
    roles: dict[str, RoleHealth]
    dependencies: dict[str, DependencyHealth]


async def probe(check: Check) -> tuple[bool, str]:
    """Run one check with a deadline of 2 s. Returns whether it passed, and a line of detail."""
    try:
        async with asyncio.timeout(_PROBE_TIMEOUT_S):
            return True, await check.probe()
    except TimeoutError:
        wrong = f"no answer within {_PROBE_TIMEOUT_S:g} s"
    except Exception as error:
        wrong = str(error).partition("\n")[0] or type(error).__name__
    return False, f"{check.server}: {wrong}" if check.server else wrong


async def examine(checks: Mapping[str, Sequence[Check]], troubles: Mapping[str, str]) -> Health:
    """Probe every dependency once. ``troubles`` are the roles whose background task just failed."""
    unique = {check.name: check for group in checks.values() for check in group}
    results = dict(zip(unique, await asyncio.gather(*map(probe, unique.values())), strict=True))
    roles: dict[str, RoleHealth] = {}
    for role, group in checks.items():
        failed = [check for check in group if not results[check.name][0]]
        detail = "; ".join(f"{check.name}: {results[check.name][1]}" for check in failed)
        if any(check.required for check in failed):
            roles[role] = RoleHealth("down", detail)
        elif failed or role in troubles:
            roles[role] = RoleHealth("degraded", detail or troubles[role])
        else:
            roles[role] = RoleHealth("ok")
    dependencies = {
        name: DependencyHealth(
            status="ok" if results[name][0] else "down" if check.required else "degraded",
            kind=check.kind,
            roles=tuple(role for role, group in checks.items() if any(c.name == name for c in group)),
            detail=results[name][1],
        )
        for name, check in unique.items()
    }
    states = [health.status for health in roles.values()]
    worst: Status = "down" if "down" in states else "degraded" if "degraded" in states else "ok"
    return Health(worst, roles, dependencies)


class CachedHealth:
    """Examines once at a time and keeps the result for a second, so that frequent probes cost nothing."""

    def __init__(self, report: Callable[[], Awaitable[Health]]) -> None:
        self._report = report
        self._examining = asyncio.Lock()
        self._health: Health | None = None
        self._until = 0.0

    async def health(self) -> Health:
        """Health at most a second old."""
        async with self._examining:
            if self._health is None or time.monotonic() >= self._until:
                self._health = await self._report()
                self._until = time.monotonic() + _CACHED_S
            return self._health


def _page_or(
    request: Request[Any, Any, Any],
    health: Health,
    document: Any,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> Response[Any]:
    """The page of a state for a browser, else its JSON document."""
    if not wants_html(request):
        return Response(document, status_code=status, headers=headers)
    more = {**(headers or {}), "Cache-Control": "no-store", "Vary": "Accept"}
    return html_page("health.html", development=False, status=status, headers=more, health=health)


def _without_details(health: Health) -> Health:
    roles = {name: RoleHealth(role.status) for name, role in health.roles.items()}
    dependencies = {name: msgspec.structs.replace(each, detail="") for name, each in health.dependencies.items()}
    return Health(health.status, roles, dependencies)


def health_routes(
    report: Callable[[], Awaitable[Health]],
    stopping: Callable[[], bool],
    *,
    production: bool = False,
    measures: Mapping[Gauge, Measure] | None = None,
    siblings: Siblings | None = None,
) -> list[Any]:
    """The routes; ``report`` examines everything. ``measures`` and ``siblings`` are those of the metrics."""
    cached = CachedHealth(report)
    group = RouteGroup("operations")

    @group.get(
        "/health/live",
        operation_id="is_alive",
        summary="Liveness check",
        description="Returns 200 as long as the process responds, whatever the state of its dependencies.",
        responses=answer(dict[str, str], "The process is alive.", {"status": "ok"}),
    )
    async def live(request: Request[Any, Any, Any]) -> Response[Any]:
        return _page_or(request, Health("ok", {}, {}), {"status": "ok"})

    def shown(health: Health, request: Request[Any, Any, Any]) -> Health:
        """In production only private networks see details, which name servers and versions."""
        address = parse_address(request.client.host if request.client else "")
        return health if not production or (address and address.is_private) else _without_details(health)

    @group.get(
        "/health/ready",
        operation_id="is_ready",
        summary="Readiness check of roles and dependencies",
        description=(
            "`degraded` means that a dependency is down but requests are still served. 503 comes with "
            "`Retry-After`. In production only clients on private networks see the details."
        ),
        responses=answer(Health, "Ready.", _HEALTHY) | answer(Health, "Not ready.", _DOWN, status=503),
    )
    async def ready(request: Request[Any, Any, Any]) -> Response[Any]:
        health = shown(await cached.health(), request)
        if stopping():
            health = msgspec.structs.replace(health, status="down")
        headers = {"Retry-After": "1"} if health.status == "down" else {}
        status = 503 if health.status == "down" else 200
        return _page_or(request, health, health, status=status, headers=headers)

    exposition = CachedMetrics(measures or {}, siblings)

    @get("/metrics", include_in_schema=False)
    async def metrics() -> Response[bytes]:
        return Response(await exposition.text(), media_type=_METRICS_TYPE)

    return [live, ready, metrics]
