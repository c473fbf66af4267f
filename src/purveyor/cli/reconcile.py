"""``app reconcile``: find and repair inconsistencies between roles."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from purveyor.cli.options import ConfigOption, console, run
from purveyor.cli.output import JsonOption, out, print_json
from purveyor.kit.clock import now
from purveyor.registry import ROLES
from purveyor.roles.email.contract import Email
from purveyor.roles.email.role import MAILED
from purveyor.roles.orders.contract import Orders

if TYPE_CHECKING:  # see cli.options
    from purveyor.host import Host
    from purveyor.kit.events.outbox import Outbox
    from purveyor.kit.events.transport import DeadLetter

_IN_TRANSIT = timedelta(minutes=1)
_PAGE = 500


def reconcile(
    apply: Annotated[bool, typer.Option("--apply", help="Repair what is found.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find and repair inconsistencies between roles.

    Finds orders without an event, events without an email, emails of dead senders, and dead letters.
    Exit code 1 if anything is left to repair. Safe to run at any time and repeatedly.
    """
    consistent, found = run(_reconcile(apply, config, as_json))
    if as_json:
        print_json({"consistent": consistent, "inconsistencies": found})
    if not consistent:
        raise typer.Exit(1)


class Inconsistency(msgspec.Struct, frozen=True):
    """One inconsistency of the report."""

    kind: str
    """``order``, ``event``, ``mail sender`` or ``dead letter``."""
    id: str
    detail: str
    repaired: bool = False


class _Report:
    """Collects inconsistencies. Prints each at once, because repairs may take long, except for JSON."""

    def __init__(self, *, printed: bool) -> None:
        self.found: list[Inconsistency] = []
        self._printed = printed

    def add(self, kind: str, id: str, detail: str, *, repaired: bool = False) -> None:  # noqa: A002 - the field's name
        self.found.append(Inconsistency(kind, id, detail, repaired))
        if self._printed:
            out.print(f"{'event' if kind == 'dead letter' else kind} {id}: {detail}")


async def _reconcile(apply: bool, config: ConfigOption, as_json: bool) -> tuple[bool, list[Inconsistency]]:
    report = _Report(printed=not as_json)
    names = ",".join(name for name in ROLES if name in ("auth", "orders", "email"))
    async with console(names, config) as host:
        await host.check_events()
        letters = await host.events.dead_letters()
        left = [
            await _orders(host, apply, report),
            await _events(host, letters, apply, report),
            await _claims(host, apply, report),
            _dead_letters(letters, report),
        ]
    if not any(left) and not as_json:
        out.print("Everything is consistent." if apply else "No inconsistencies found.")
    return not any(left), report.found


async def _orders(host: "Host", apply: bool, report: _Report) -> int:
    """Report or repair orders without an event; returns how many are left."""
    found = 0
    while order_ids := await host.port(Orders).unannounced(_PAGE):
        found += len(order_ids)
        done = await host.port(Orders).announce(order_ids) if apply else ()
        for each in order_ids:
            detail = f"no event. {'Emitted' if each in done else 'Would emit'} it."
            report.add("order", each, detail, repaired=each in done)
        if not apply:
            return found
        if not done:
            return len(order_ids)
    return 0


async def _events(host: "Host", letters: Sequence["DeadLetter"], apply: bool, report: _Report) -> int:
    """Report or replay published events without an email; returns how many are left."""
    dead = {letter.event_id for letter in letters}
    left = 0
    for actor in host.actors.values():
        if actor.outbox is None:
            continue
        async for page in _published(actor.outbox):
            for event_id in await host.port(Email).unrecorded(page):
                if event_id in dead:
                    continue  # reported as a dead letter; an operator has to find the cause first
                done = apply and await actor.outbox.replay(event_id)
                left += not done
                report.add(
                    "event", event_id, f"no email. {'Replayed' if done else 'Would replay'} it.", repaired=done
                )
    return left


async def _published(outbox: "Outbox") -> AsyncIterator[Sequence[str]]:
    """Pages of published events that need an email, without those that may still be in transit."""
    types = [event.type for event in MAILED]
    before, after = now() - _IN_TRANSIT, ""
    while page := await outbox.published(types, before, after, _PAGE):
        yield page
        after = page[-1]


async def _claims(host: "Host", apply: bool, report: _Report) -> int:
    """Report or release emails claimed by dead senders; returns how many senders are left."""
    found = await host.port(Email).recover(apply=apply)
    for sender in found.senders:
        detail = f"dead. {'Released' if apply else 'Would release'} its emails."
        report.add("mail sender", sender, detail, repaired=apply)
    return 0 if apply else len(found.senders)


def _dead_letters(letters: Sequence["DeadLetter"], report: _Report) -> int:
    for letter in letters:
        detail = f"dead letter in {letter.queue} ({letter.reason}). Run app events replay or app events drop."
        report.add("dead letter", letter.event_id, detail)
    return len(letters)
