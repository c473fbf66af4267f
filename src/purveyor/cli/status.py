"""``app status``: roles, servers, pending work, failures and the last hour on one screen."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import msgspec
import typer
from rich.text import Text

from purveyor import __version__
from purveyor.cli.events import outboxes
from purveyor.cli.inspect import Finding, examine, say
from purveyor.cli.options import ConfigOption, asked, read_sources, run
from purveyor.cli.output import JsonOption, out, print_json
from purveyor.kit.clock import now
from purveyor.kit.errors import Problem, StartupError
from purveyor.registry import ROLES
from purveyor.roles.email.contract import HELD, SUPERSEDED, Email, MailRecord, State
from purveyor.settings import Settings

_PERIOD = timedelta(hours=1)
_MOST = 1000
_WAITING: tuple[State, ...] = ("pending", "claimed", "data", "retry")
_FAILED: tuple[State, ...] = ("failed", "unknown")


class Status(msgspec.Struct, kw_only=True):
    """Output of ``app status``. Counts of emails stop at 1000."""

    version: str = __version__
    roles: list[str] = msgspec.field(default_factory=lambda: list(ROLES))
    servers: list[Finding] = []
    events_waiting: int = 0
    mails_waiting: dict[str, int] = {}
    mails_held: int = 0
    dead_letters: int = 0
    mails_failed: dict[str, int] = {}
    last_hour: dict[str, int] = {}
    next_steps: list[str] = []


def status(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show roles, servers, pending work, failures and the last hour.

    Ends with suggested next steps. Exit code 1 if a required server is down.
    """
    found = run(_status(config))
    if as_json:
        print_json(found)
    else:
        _print(found)
    if any(server.status == "down" for server in found.servers):
        raise typer.Exit(1)


async def _status(config: ConfigOption) -> Status:
    found = Status()
    if not _has_data(config):
        found.next_steps = ["There is no data yet. Start the shop with app serve, then try it with app demo."]
        return found
    findings = await examine(list(ROLES), config)
    found.servers = [each for each in findings if each.kind != "setting"]
    found.next_steps = [each.detail for each in findings if each.kind == "setting" and each.detail]
    if any(each.status == "down" for each in found.servers):
        found.next_steps.append("Start what is down, or correct its setting. Run app doctor for details.")
    for count in (_count_events, _count_mails):
        try:
            await count(config, found)
        except (StartupError, Problem) as trouble:
            if not any(each.status == "down" for each in found.servers):
                found.next_steps.append(str(trouble))
    found.next_steps += _next_steps(found)
    return found


def _has_data(config: ConfigOption) -> bool:
    """Return whether there is a database: one of the settings, or an embedded one that ran before."""
    sources = read_sources(config)
    settings = sources.load(Settings)
    databases = ("DATABASE_URL", *(f"{name.upper()}_DATABASE_URL" for name in ROLES))
    return any(sources.find(name)[0] for name in databases) or (settings.data_dir / "postgres").exists()


async def _count_events(config: ConfigOption, found: Status) -> None:
    recent: Counter[str] = Counter()
    async with outboxes(config) as host:
        for name, actor in host.actors.items():
            if actor.outbox is None:
                continue
            found.events_waiting += await actor.outbox.waiting()
            if name != Email.role:  # its events only repeat the ledger
                recent.update(await actor.outbox.recent(_PERIOD))
        found.last_hour |= dict(sorted(recent.items()))
        await host.check_events()
        found.dead_letters = len(await host.events.dead_letters())


async def _count_mails(config: ConfigOption, found: Status) -> None:
    async def count(email: Email) -> Sequence[Sequence[MailRecord]]:
        states = (*_WAITING, *_FAILED, "sent")
        return await asyncio.gather(*(email.mails(state=state, limit=_MOST) for state in states))

    *others, sent = await asked(Email, count, config)
    records = [[record for record in each if not record.error.startswith(SUPERSEDED)] for each in others]
    counts = dict(zip((*_WAITING, *_FAILED), map(len, records), strict=True))
    found.mails_held = sum(record.error.startswith(HELD) for each in records for record in each)
    found.mails_waiting = {state: counts[state] for state in _WAITING if counts[state]}
    found.mails_failed = {state: counts[state] for state in _FAILED if counts[state]}
    since = now() - _PERIOD
    found.last_hour["emails sent"] = sum(record.updated_at >= since for record in sent)


def _next_steps(found: Status) -> list[str]:
    steps = []
    if found.events_waiting:
        steps.append("Events wait. If their number does not fall, check that app serve or app worker is running.")
    if found.dead_letters:
        steps.append("See the dead letters with app events list, then run app events replay or app events drop.")
    if found.mails_held:
        steps.append(
            f"{found.mails_held} emails to unconfirmed addresses are held and sent later: "
            "app mail list --state pending. To send one now, run app mail resend."
        )
    if "failed" in found.mails_failed:
        steps.append("See the failed emails with app mail list --state failed, then run app mail resend.")
    if "unknown" in found.mails_failed:
        steps.append("Settle the emails in doubt: app mail list --state unknown, then app mail resolve.")
    return steps


def _print(found: Status) -> None:
    out.print(f"Purveyor {found.version}, roles {', '.join(found.roles)}")
    _section("Servers")
    for server in found.servers:
        say(server.status, f"{server.name} ({server.kind}): {server.detail}")
    if found.servers:
        _section("Waiting")
        out.print(f"events {found.events_waiting}, emails {_counts(found.mails_waiting)}")
        _section("Failed")
        out.print(f"dead letters {found.dead_letters}, emails {_counts(found.mails_failed)}")
        _section("Last hour")
        out.print(", ".join(f"{name} {_shown(count)}" for name, count in found.last_hour.items()) or "unknown")
    else:
        out.print("none")
    _section("Next")
    for step in found.next_steps or ["Nothing needs your attention."]:
        out.print(step, soft_wrap=not out.is_terminal)


def _section(title: str) -> None:
    out.print()
    out.print(Text(title, style="bold"))


def _counts(counts: dict[str, int]) -> str:
    total = sum(counts.values())
    each = ", ".join(f"{state} {_shown(count)}" for state, count in counts.items())
    return f"{total} ({each})" if counts else "0"


def _shown(count: Any) -> str:
    return f"{_MOST}+" if count == _MOST else str(count)
