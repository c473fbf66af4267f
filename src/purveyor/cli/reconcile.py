"""``app reconcile``: what fell between two roles, and putting it right."""

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from purveyor.cli.look import out
from purveyor.cli.options import ConfigOption, console, run
from purveyor.kit.clock import now
from purveyor.registry import ROLES
from purveyor.roles.email.contract import RecoverClaims, WhichUnrecorded
from purveyor.roles.email.role import MAILED
from purveyor.roles.orders.contract import AnnounceOrders, FindUnannounced

if TYPE_CHECKING:  # see cli.options
    from purveyor.host import Host
    from purveyor.kit.events.outbox import Outbox
    from purveyor.kit.events.transport import DeadLetter

_ON_THE_WAY = timedelta(minutes=1)
_PAGE = 500


def reconcile(
    apply: Annotated[bool, typer.Option("--apply", help="Put it right, not only say what is wrong.")] = False,
    config: ConfigOption = None,
) -> None:
    """Find orders without event, events without mail, mails of dead senders, dead letters.

    Exit code 1: something was found and is not put right. Safe to run at any time, and twice.
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
        out.print("nothing is left to do" if apply else "nothing found")
    return not any(left)


async def _orders(host: "Host", apply: bool) -> int:
    """Orders whose event was lost; how many are left so."""
    found = 0
    while order_ids := (await host.ask(FindUnannounced(limit=_PAGE))).order_ids:
        found += len(order_ids)
        for order_id in order_ids:
            out.print(f"order {order_id}: no event. {'Announced' if apply else 'Would announce'} it.")
        if not apply:
            return found
        if not (await host.ask(AnnounceOrders(order_ids=order_ids))).order_ids:
            return len(order_ids)
    return 0


async def _events(host: "Host", letters: Sequence["DeadLetter"], apply: bool) -> int:
    """Published events of which role email has no mail; how many are left so."""
    dead = {letter.event_id for letter in letters}
    left = 0
    for actor in host.actors.values():
        if actor.outbox is None:
            continue
        async for page in _published(actor.outbox):
            for event_id in (await host.ask(WhichUnrecorded(event_ids=tuple(page)))).event_ids:
                if event_id in dead:
                    continue  # listed as a dead letter: somebody has to see why before it goes out again
                done = apply and await actor.outbox.replay(event_id)
                left += not done
                out.print(f"event {event_id}: no mail. {'Replayed' if done else 'Would replay'} it.")
    return left


async def _published(outbox: "Outbox") -> AsyncIterator[Sequence[str]]:
    """Events that become mails, a page at a time, but not those that may still be on their way."""
    types = [event.type for event in MAILED]
    before, after = now() - _ON_THE_WAY, ""
    while page := await outbox.published(types, before, after, _PAGE):
        yield page
        after = page[-1]


async def _claims(host: "Host", apply: bool) -> int:
    """Mails in the hands of senders that are gone; how many senders still have some."""
    found = await host.ask(RecoverClaims(apply=apply))
    for sender in found.senders:
        out.print(f"mail sender {sender}: gone. {'Freed' if apply else 'Would free'} its mails.")
    return 0 if apply else len(found.senders)


def _dead_letters(letters: Sequence["DeadLetter"]) -> int:
    for letter in letters:
        out.print(
            f"event {letter.event_id}: dead in {letter.queue} ({letter.reason}). "
            "Yours to decide: app events replay, or drop."
        )
    return len(letters)
