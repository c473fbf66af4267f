"""``app roles``, ``app config`` and ``app doctor``."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import typer
from rich.text import Text

from purveyor.cli.options import (
    ALL_ROLES,
    ConfigOption,
    RolesOption,
    read_sources,
    role_names,
    run,
)
from purveyor.cli.output import JsonOption, out, print_json, table
from purveyor.kit import log, otel
from purveyor.kit.log import printable
from purveyor.kit.mode import Mode
from purveyor.kit.role import BUILT_IN
from purveyor.registry import ROLES, TRANSPORTS
from purveyor.settings import Entry, Url


def roles(as_json: JsonOption = False) -> None:
    """List the roles, what they serve, consume, emit and call, and the packages that they come from."""
    found: list[dict[str, Any]] = [
        {
            "role": role.name,
            "serves": role.serves,
            "consumes": list(role.consumes.values()),
            "emits": [event.type for event in role.emits],
            "calls": [port.role for port in role.needs],
            "origin": role.origin,
        }
        for role in ROLES.values()
    ]
    if as_json:
        print_json(found)
        return
    shown = table(
        *("Role", "Serves", "Consumes", "Emits", "Calls", "Origin"),
        whole=["Role"],
        drop=["Emits", "Consumes", "Calls", "Origin"],
    )
    for role in found:
        lists = (", ".join(role[each]) or "-" for each in ("consumes", "emits", "calls"))
        shown.add_row(role["role"], role["serves"], *lists, role["origin"])
    out.print(shown)
    for transport in (each for each in TRANSPORTS if each.origin != BUILT_IN):
        out.print(f"Event transport {transport.name} is from {transport.origin}.")


def config(roles: RolesOption = ALL_ROLES, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show the effective settings and their sources. Secrets are masked."""
    from purveyor.host import choose_roles, choose_transport, declared_settings

    chosen = choose_roles(role_names(roles))
    sources = read_sources(config)
    choose_transport(sources)  # refuses the URL of a broker with a wrong scheme
    entries = sources.entries(declared_settings(chosen))
    for role in chosen:
        name = f"{role.name.upper()}_DATABASE_URL"
        value, source = sources.find(name)
        if value:
            entries.append(Entry(name, Url(value).masked, source, f"Database of role {role.name} only"))
    for name, value in sorted(sources.starting_with(otel.PREFIX).items()):
        masked = "****" if name.endswith("_HEADERS") else Url(value).masked
        entries.append(Entry(name, masked, sources.find(name)[1], "Export of traces"))
    if as_json:
        print_json(entries)
        return
    shown = table(
        *("Setting", "Value", "Source", "Description"), whole=["Setting", "Source"], drop=["Description", "Source"]
    )
    for entry in entries:
        shown.add_row(entry.name, entry.value or "-", entry.source, entry.about)
    out.print(shown)


class Finding(msgspec.Struct, frozen=True):
    """Finding of ``app doctor`` about one dependency or setting."""

    name: str
    status: str
    """``ok``, ``warn`` (the roles work without it) or ``down``."""
    kind: str
    """``embedded``, ``external`` or ``setting``."""
    detail: str


def doctor(roles: RolesOption = ALL_ROLES, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Check the configuration and every dependency of the roles.

    Exit code 1 if a required dependency or a configured server is down. Also lists unknown settings.
    """
    found = run(examine(role_names(roles), config))
    healthy = all(each.status != "down" for each in found)
    if as_json:
        print_json({"ok": healthy, "findings": found})
    else:
        _print(found)
    if not healthy:
        raise typer.Exit(1)


async def examine(roles: Sequence[str], config: ConfigOption) -> list[Finding]:
    """The settings, and every dependency of the roles."""
    from purveyor.host import Host, choose_roles, known_settings
    from purveyor.kit.http.health import probe

    log.configure("console", "critical")
    chosen, sources = choose_roles(roles), read_sources(config)
    Host(chosen, sources)
    found = [Finding("configuration", "ok", "setting", "")]
    found += [
        Finding(unknown.name, "warn", "setting", str(unknown)) for unknown in sources.unknown(known_settings())
    ]
    if otel.is_wanted(variables := sources.starting_with(otel.PREFIX)):
        found.append(await _examine_traces(variables))
    async with Host(chosen, sources, mode=Mode.DOCTOR).running() as host:
        checks = {check.name: (role, check) for role, group in host.checks().items() for check in group}
        results = await asyncio.gather(*(probe(check) for _, check in checks.values()))
        for (role, check), (well, detail) in zip(checks.values(), results, strict=True):
            state = "ok" if well else "down" if check.required or check.kind == "external" else "warn"
            hint = ""
            if not well and check.kind == "external":
                hint = _hint(detail, check.setting or host.database_setting(role))
            found.append(Finding(check.name, state, check.kind, detail + hint))
    return found


async def _examine_traces(variables: Mapping[str, str]) -> Finding:
    """Check the export of traces. Roles work without it."""
    if trouble := otel.obstacle(variables):
        return Finding("traces", "warn", "setting", trouble)
    if await asyncio.to_thread(otel.takes_traces, variables):
        return Finding("traces", "ok", "external", "the collector takes them")
    why_not = "the collector does not take them. Start it or correct OTEL_EXPORTER_OTLP_ENDPOINT."
    return Finding("traces", "warn", "external", why_not)


def _print(found: Sequence[Finding]) -> None:
    """A line for each finding. Dependencies that fail alike are one line, because they are one server."""
    failed: dict[tuple[str, str, str], list[str]] = {}
    for each in found:
        if each.status != "ok":
            failed.setdefault((each.status, each.kind, each.detail), []).append(each.name)
        else:
            say(each.status, f"{each.name} ({each.kind}): {each.detail}" if each.detail else each.name)
    for (status, kind, detail), names in failed.items():
        say(status, detail if kind == "setting" else f"{', '.join(names)} ({kind}): {detail}")


def _hint(detail: str, setting: str) -> str:
    """The next step for the operator, unless the error already names it."""
    if re.search(r"\b[Rr]un (app|the)\b|\b([Cc]orrect|[Cc]heck) [A-Z_]+", detail):
        return ""
    return f"{'' if detail.endswith('.') else '.'} Start the server or correct {setting}."


def say(word: str, text: str) -> None:
    """Print a line that begins with ``ok``, ``warn`` or ``down``."""
    color = {"ok": "green", "warn": "yellow", "down": "red"}[word]
    out.print(Text.assemble((f"{word:<5} ", color), printable(text)), soft_wrap=True)
