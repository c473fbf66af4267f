"""``app roles``, ``app config`` and ``app doctor``, and the output of all commands."""

import asyncio
import re
import sys
from collections.abc import Sequence
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from purveyor.cli.options import (
    ALL_ROLES,
    ConfigOption,
    RolesOption,
    read_sources,
    role_names,
    run,
)
from purveyor.kit import log
from purveyor.kit.log import printable
from purveyor.kit.mode import Mode
from purveyor.registry import ROLES
from purveyor.settings import Url

_UNBOUNDED = 10_000


class _Out(Console):
    """Console that prints texts literally, because they may come from customers or foreign servers."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a string to text without interpreting markup; also used for table cells."""
        return super().render_str(printable(text), **options)


# No line wrapping in files and pipes, so that grep finds every id.
out = _Out(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _UNBOUNDED)


def table(*columns: str) -> Table:
    """An empty table in the style of all commands."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def roles() -> None:
    """List the roles and what they serve, consume, emit and call."""
    shown = table("Role", "Serves", "Consumes", "Emits", "Calls")
    for role in ROLES.values():
        consumes = ", ".join(role.consumes.values())
        emits = ", ".join(event.type for event in role.emits)
        asks = ", ".join(port.role for port in role.needs)
        shown.add_row(role.name, role.serves, consumes or "-", emits or "-", asks or "-")
    out.print(shown)


def config(roles: RolesOption = ALL_ROLES, config: ConfigOption = None) -> None:
    """Show the effective settings and their sources. Secrets are masked."""
    from purveyor.host import choose_roles, choose_transport, declared_settings

    chosen = choose_roles(role_names(roles))
    sources = read_sources(config)
    choose_transport(sources)  # refuses the URL of a broker with a wrong scheme
    shown = table("Setting", "Value", "Source", "Description")
    for entry in sources.entries(declared_settings(chosen)):
        shown.add_row(entry.name, entry.value or "-", entry.source, entry.about)
    for role in chosen:
        value, source = sources.find(f"{role.name.upper()}_DATABASE_URL")
        if value:
            name = f"{role.name.upper()}_DATABASE_URL"
            shown.add_row(name, Url(value).masked, source, f"Database of role {role.name} only")
    out.print(shown)


def doctor(roles: RolesOption = ALL_ROLES, config: ConfigOption = None) -> None:
    """Check the configuration and every dependency of the roles.

    Exit code 1 if a required dependency is down.
    """
    if not run(_doctor(role_names(roles), config)):
        raise typer.Exit(1)


async def _doctor(roles: Sequence[str], config: ConfigOption) -> bool:
    from purveyor.host import Host, choose_roles
    from purveyor.kit.http.health import probe

    log.configure("console", "critical")
    chosen, sources = choose_roles(roles), read_sources(config)
    Host(chosen, sources)
    async with Host(chosen, sources, mode=Mode.DOCTOR).running() as host:
        _say("ok", "configuration")
        checks = {check.name: (role, check) for role, group in host.checks().items() for check in group}
        results = await asyncio.gather(*(probe(check) for _, check in checks.values()))
        lines: dict[tuple[str, str, str], list[str]] = {}  # one server may be several dependencies
        for (role, check), (well, detail) in zip(checks.values(), results, strict=True):
            if well:
                _say("ok", f"{check.name} ({check.kind}): {detail}")
                continue
            hint = _hint(detail, check.setting or host.database_setting(role)) if check.kind == "external" else ""
            word = "down" if check.required else "warn"
            lines.setdefault((word, check.kind, detail + hint), []).append(check.name)
        for (word, kind, detail), names in lines.items():
            _say(word, f"{', '.join(names)} ({kind}): {detail}")
    return all(word != "down" for word, _, _ in lines)


def _hint(detail: str, setting: str) -> str:
    """The next step for the operator, unless the error already names it."""
    if re.search(r"\b[Rr]un (app|the)\b|\b([Cc]orrect|[Cc]heck) [A-Z_]+", detail):
        return ""
    return f"{'' if detail.endswith('.') else '.'} Start the server or correct {setting}."


def _say(word: str, text: str) -> None:
    color = {"ok": "green", "warn": "yellow", "down": "red"}[word]
    out.print(Text.assemble((f"{word:<5} ", color), printable(text)), soft_wrap=True)
