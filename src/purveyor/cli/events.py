"""``app events``: inspect and replay events in the outbox and the dead letters."""

import re
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from purveyor.cli.help import GroupedHelp
from purveyor.cli.options import ConfigOption, console, read_sources, run
from purveyor.cli.output import JsonOption, out, print_json, table
from purveyor.kit.errors import NotFound, StartupError
from purveyor.kit.role import Role
from purveyor.registry import ROLES

if TYPE_CHECKING:  # see cli.options
    from purveyor.host import Host
    from purveyor.kit.events.outbox import OutboxEntry
    from purveyor.kit.events.transport import DeadLetter

events = typer.Typer(
    cls=GroupedHelp,
    name="events",
    no_args_is_help=True,
    help="Inspect and replay events in outbox and dead letters.",
    epilog="Example: app events list --all",
)

EventId = Annotated[str, typer.Argument(help="Event ID from app events list.")]


@events.command("list", epilog="Example: app events list --all --limit 20")
def list_events(
    recent: Annotated[bool, typer.Option("--all", help="Include published events, newest first.")] = False,
    limit: Annotated[int, typer.Option(help="Maximum number of each.", min=1, max=1000)] = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the events that wait in the outbox, and the dead letters."""
    run(_list(recent, limit, config, as_json))


async def _list(recent: bool, limit: int, config: ConfigOption, as_json: bool) -> None:
    async with outboxes(config) as host:
        await host.check_events()
        emitting = [actor.outbox for actor in host.actors.values() if actor.outbox]
        waiting = sum([await outbox.waiting() for outbox in emitting])
        entries = [e for outbox in emitting for e in await outbox.entries(waiting=not recent, limit=limit)]
        dead = await host.events.dead_letters()
    if as_json:
        counts = {"events_waiting": waiting, "dead_letters_waiting": len(dead)}
        print_json({**counts, "events": [*map(_head, entries)], "dead_letters": [*map(_head, dead[:limit])]})
        return
    shown = table(
        *("Event", "Type", "Location", "Attempts", "Reason"),
        whole=["Event", "Type", "Location", "Attempts"],
        drop=["Reason", "Attempts", "Location", "Type"],
    )
    for entry in entries:
        where = "published" if entry.published_at else "outbox"
        shown.add_row(entry.event_id, entry.type, where, str(entry.attempts), entry.last_error)
    for letter in dead[:limit]:
        where = f"dead letter in {letter.queue}"
        shown.add_row(letter.event_id, letter.type, where, str(letter.attempts), letter.reason)
    if shown.row_count:
        out.print(shown)
    if waiting or dead:
        out.print(f"Events waiting: {waiting}. Dead letters: {len(dead)}.")
    else:
        out.print("No events are waiting, and there are no dead letters.")


@events.command("show", epilog="Example: app events show 01a20481-2990-7f1e-9c3b-5d2e8a7b6c4f")
def show(event_id: EventId, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Show an event with its body. Tokens are masked."""
    run(_show(event_id, config, as_json))


async def _show(event_id: str, config: ConfigOption, as_json: bool) -> None:
    async with outboxes(config) as host:
        await host.check_events()
        found = [await actor.outbox.find(event_id) for actor in host.actors.values() if actor.outbox]
        letters = [letter for letter in await host.events.dead_letters() if letter.event_id == event_id]
    entries = [entry for entry in found if entry is not None]
    if not entries and not letters:
        raise NotFound(f"There is no event {event_id}.")
    if as_json:
        print_json({"events": [*map(_whole, entries)], "dead_letters": [*map(_whole, letters)]})
        return
    shown = table("", "")
    for entry in entries:
        shown.add_row("type", entry.type)
        shown.add_row("subject", entry.subject)
        shown.add_row("occurred", entry.occurred_at.isoformat())
        shown.add_row("published", entry.published_at.isoformat() if entry.published_at else "not yet")
        shown.add_row("attempts", f"{entry.attempts} {entry.last_error}")
        shown.add_row("body", _masked(entry.body))
    for letter in letters:
        shown.add_row("dead letter", f"{letter.queue}, {letter.attempts} attempts, {letter.died_at:%F %T}")
        shown.add_row("reason", letter.reason)
        shown.add_row("body", _masked(letter.body))
    out.print(shown)


def _head(record: "OutboxEntry | DeadLetter") -> dict[str, Any]:
    """An event without its body."""
    return {name: value for name, value in msgspec.structs.asdict(record).items() if name != "body"}


def _whole(record: "OutboxEntry | DeadLetter") -> dict[str, Any]:
    """An event with its body, tokens masked. It is text if it is not JSON, as a foreign dead letter may be."""
    masked = _masked(record.body)
    try:
        body = msgspec.json.decode(masked)
    except msgspec.DecodeError:
        body = masked
    return {**_head(record), "body": body}


@asynccontextmanager
async def outboxes(config: Path | None) -> "AsyncIterator[Host]":
    """A console of the roles whose events leave through an outbox.

    A role that may keep its rows elsewhere is left out where its schema is missing: its settings may be known only
    to the process that runs it.
    """
    sources, roles = read_sources(config), list[Role[Any]](ROLES.values())
    emitting = [role for role in roles if role.emits and role.is_in_postgres(sources.load(role.settings))]
    certain = [role for role in emitting if role.in_postgres is None]
    async with AsyncExitStack() as stack:
        try:
            host = await stack.enter_async_context(console(_names(emitting), config))
        except StartupError:
            host = await stack.enter_async_context(console(_names(certain), config))
        yield host


def _names(roles: Sequence[Role[Any]]) -> str:
    return ",".join(role.name for role in roles)


def _masked(body: str) -> str:
    """Mask tokens of password resets."""
    return re.sub(r'("token"\s*:\s*)"(?:[^"\\]|\\.)*"', r'\1"****"', body)


@events.command("replay", epilog="Example: app events replay 01a20481-2990-7f1e-9c3b-5d2e8a7b6c4f")
def replay(event_id: EventId, config: ConfigOption = None) -> None:
    """Deliver an event again, from the dead letters or the outbox.

    Roles that have already handled it ignore it.
    """
    run(_replay(event_id, config))


async def _replay(event_id: str, config: ConfigOption) -> None:
    async with outboxes(config) as host:
        await host.check_events()
        if await _from_dead_letters(host, event_id) or await _from_outbox(host, event_id):
            out.print(f"Event {event_id} will be delivered again.")
            return
    raise NotFound(f"There is no event {event_id}.")


@events.command("drop", epilog="Example: app events drop --yes 01a20481-2990-7f1e-9c3b-5d2e8a7b6c4f")
def drop(
    event_id: EventId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    config: ConfigOption = None,
) -> None:
    """Delete the dead letters of an event. The event itself stays in the outbox."""
    if not yes:
        typer.confirm(f"Delete the dead letters of event {event_id}?", abort=True)
    run(_drop(event_id, config))


async def _drop(event_id: str, config: ConfigOption) -> None:
    async with outboxes(config) as host:
        await host.check_events()
        letters = [letter for letter in await host.events.dead_letters() if letter.event_id == event_id]
        dropped = [letter.queue for letter in letters if await host.events.drop(letter.queue, event_id)]
    if not dropped:
        raise NotFound(f"There is no dead letter {event_id}.")
    out.print(f"Deleted the dead letters of event {event_id} in {', '.join(dropped)}.")


async def _from_dead_letters(host: "Host", event_id: str) -> bool:
    letters = [letter for letter in await host.events.dead_letters() if letter.event_id == event_id]
    return any([await host.events.replay(letter.queue, event_id) for letter in letters])


async def _from_outbox(host: "Host", event_id: str) -> bool:
    outboxes = [actor.outbox for actor in host.actors.values() if actor.outbox]
    return any([await outbox.replay(event_id) for outbox in outboxes])
