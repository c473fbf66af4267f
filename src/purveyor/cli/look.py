"""``app roles``, ``config``, ``doctor``: what there is and how it is, without changing anything."""

import sys
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from purveyor.cli.options import (
    ALL_ROLES,
    ConfigOption,
    RolesOption,
    console,
    read_sources,
    role_names,
    run,
)
from purveyor.kit.errors import ConfigError, StartupError
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
    from purveyor.host import Host, choose_roles

    chosen = choose_roles(role_names(roles))
    Host(chosen, read_sources(config))
    _say("ok", "configuration")
    seen: set[str] = set()
    results = [run(_examine(role.name, config, seen)) for role in chosen]
    if not all(results):
        raise typer.Exit(1)


async def _examine(role: str, config: ConfigOption, seen: set[str]) -> bool:
    from purveyor.kit.health import probe

    healthy = True
    try:
        async with console(role, config, log_level="critical") as host:
            for check in [one for one in host.checks()[role] if one.name not in seen]:
                seen.add(check.name)
                well, detail = await probe(check)
                word = "ok" if well else "down" if check.required else "warn"
                _say(word, f"{check.name} ({check.kind}): {detail}")
                healthy = healthy and (well or not check.required)
    except (StartupError, ConfigError) as error:
        _say("down", f"role {role}: {error}")
        return False
    return healthy


def _say(word: str, text: str) -> None:
    color = {"ok": "green", "warn": "yellow", "down": "red"}[word]
    out.print(Text.assemble((f"{word:<5} ", color), printable(text)), soft_wrap=True)
