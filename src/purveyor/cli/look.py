"""``app roles``, ``config``, ``doctor``: what there is and how it is, without changing anything."""

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
from purveyor.registry import ROLES
from purveyor.settings import Settings, Url

_UNBOUNDED = 10_000


class _Out(Console):
    """Shows every text as it is, in cells too: it may be a customer's, or a foreign server's."""

    def render_str(self, text: str, **options: Any) -> Text:
        """See ``Console``: it turns every ``str`` into what is shown."""
        return super().render_str(printable(text), **options)


# A file or a pipe has no edge: an id that is folded at its 80th column is found by no grep.
out = _Out(highlight=False, markup=False, emoji=False, width=None if sys.stdout.isatty() else _UNBOUNDED)


def table(*columns: str) -> Table:
    """A plain table, the same look in every command."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def roles() -> None:
    """List the roles: what each serves, consumes and emits, and which other role it asks."""
    shown = table("Role", "Serves", "Consumes", "Emits", "Asks")
    for role in ROLES.values():
        consumes = ", ".join(role.consumes.values())
        emits = ", ".join(event.type for event in role.emits)
        asks = ", ".join(port.role for port in role.needs)
        shown.add_row(role.name, role.serves, consumes or "-", emits or "-", asks or "-")
    out.print(shown)


def config(roles: RolesOption = ALL_ROLES, config: ConfigOption = None) -> None:
    """Show the effective settings and where each comes from; secrets are masked."""
    from purveyor.host import choose_roles

    chosen = choose_roles(role_names(roles))
    sources = read_sources(config)
    shown = table("Setting", "Value", "From", "What it is")
    for entry in sources.entries([Settings, *(role.settings for role in chosen)]):
        shown.add_row(entry.name, entry.value or "-", entry.source, entry.about)
    for role in chosen:
        value, source = sources.find(f"{role.name.upper()}_DATABASE_URL")
        if value:
            name = f"{role.name.upper()}_DATABASE_URL"
            shown.add_row(name, Url(value).masked, source, f"the database of role {role.name} alone")
    out.print(shown)


def doctor(roles: RolesOption = ALL_ROLES, config: ConfigOption = None) -> None:
    """Check the configuration and every dependency of the roles, a line each; exit code 1 if one is down."""
    if not run(_doctor(role_names(roles), config)):
        raise typer.Exit(1)


async def _doctor(roles: Sequence[str], config: ConfigOption) -> bool:
    from purveyor.host import Host, choose_roles
    from purveyor.kit.http.health import probe

    log.configure("console", "critical")
    chosen, sources = choose_roles(roles), read_sources(config)
    Host(chosen, sources)
    async with Host(chosen, sources, doctor=True).running() as host:
        _say("ok", "configuration")
        checks = {check.name: (role, check) for role, group in host.checks().items() for check in group}
        results = await asyncio.gather(*(probe(check) for _, check in checks.values()))
        lines: dict[tuple[str, str, str], list[str]] = {}  # what is down may be several dependencies at once
        for (role, check), (well, detail) in zip(checks.values(), results, strict=True):
            if well:
                _say("ok", f"{check.name} ({check.kind}): {detail}")
                continue
            cure = _cure(detail, check.setting or host.database_setting(role)) if check.kind == "external" else ""
            word = "down" if check.required else "warn"
            lines.setdefault((word, check.kind, detail + cure), []).append(check.name)
        for (word, kind, detail), names in lines.items():
            _say(word, f"{', '.join(names)} ({kind}): {detail}")
    return all(word != "down" for word, _, _ in lines)


def _cure(detail: str, setting: str) -> str:
    """What to do next, unless the error says it."""
    told = re.search(r"\brun (app|the)\b|\bcorrect [A-Z_]+", detail)
    return "" if told else f"{'' if detail.endswith('.') else '.'} Start it, or correct {setting}."


def _say(word: str, text: str) -> None:
    color = {"ok": "green", "warn": "yellow", "down": "red"}[word]
    out.print(Text.assemble((f"{word:<5} ", color), printable(text)), soft_wrap=True)
