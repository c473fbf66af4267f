"""``app reconcile``: find and repair inconsistencies between roles."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from purveyor.cli.options import ConfigOption, console, run
from purveyor.cli.output import out
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
) -> None:
    """Find and repair inconsistencies between roles.

    Finds orders without an event, events without an email, emails of dead senders, and dead letters.
    Exit code 1 if anything is left to repair. Safe to run at any time and repeatedly.
    """
    if not run(_reconcile(apply, config)):
        raise typer.Exit(1)


async def _reconcile(apply: bool, config: ConfigOption) -> bool:
    names = ",".join(name for name in ROLES if name in ("auth", "orders", "email"))
    async with console(names, config) as host:
        await host.check_events()
        letters = await host.events.dead_letters()
        left = [
            await _orders(host, apply),
            await _events(host, letters, apply),
            await _claims(host, apply),
            _dead_letters(letters),
        ]
    if not any(left):
        out.print("Everything is consistent." if apply else "No inconsistencies found.")
    return not any(left)


async def _orders(host: "Host", apply: bool) -> int:
    """Report or repair orders without an event; returns how many are left."""
    found = 0
    while order_ids := await host.port(Orders).unannounced(_PAGE):
        found += len(order_ids)
        for order_id in order_ids:
            out.print(f"order {order_id}: no event. {'Emitted' if apply else 'Would emit'} it.")
        if not apply:
            return found
        if not await host.port(Orders).announce(order_ids):
            return len(order_ids)
    return 0


async def _events(host: "Host", letters: Sequence["DeadLetter"], apply: bool) -> int:
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
                out.print(f"event {event_id}: no email. {'Replayed' if done else 'Would replay'} it.")
    return left


async def _published(outbox: "Outbox") -> AsyncIterator[Sequence[str]]:
    """Pages of published events that need an email, without those that may still be in transit."""
    types = [event.type for event in MAILED]
    before, after = now() - _IN_TRANSIT, ""
    while page := await outbox.published(types, before, after, _PAGE):
        yield page
        after = page[-1]


async def _claims(host: "Host", apply: bool) -> int:
    """Report or release emails claimed by dead senders; returns how many senders are left."""
    found = await host.port(Email).recover(apply=apply)
    for sender in found.senders:
        out.print(f"mail sender {sender}: dead. {'Released' if apply else 'Would release'} its emails.")
    return 0 if apply else len(found.senders)


def _dead_letters(letters: Sequence["DeadLetter"]) -> int:
    for letter in letters:
        out.print(
            f"event {letter.event_id}: dead letter in {letter.queue} ({letter.reason}). "
            "Run app events replay or app events drop."
        )
    return len(letters)
