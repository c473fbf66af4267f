"""``app mail`` and ``app trace``: what became of the mails, and of an order as a whole."""

from typing import Annotated, Any, Literal

import typer

from purveyor.cli.look import out, table
from purveyor.cli.options import ConfigOption, console, run
from purveyor.roles.email.contract import ListMails, ResendMail, ResolveMail, ShowMail, State
from purveyor.roles.orders.contract import TraceOrder

mail = typer.Typer(no_args_is_help=True, help="The mail ledger: look, resend, resolve.")

EventId = Annotated[str, typer.Argument(help="The mail's event id, as app mail list shows it.")]


@mail.command("list")
def list_mails(
    state: Annotated[State | None, typer.Option(help="Only mails in this state.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1000)] = 50,
    config: ConfigOption = None,
) -> None:
    """List the newest mails."""
    found = run(_ask(ListMails(state=state or "", limit=limit), config))
    shown = table("Event", "Order", "To", "State", "Reply")
    for place in (0, 1, 3):  # an id is there to be copied
        shown.columns[place].no_wrap = True
    for record in found.mails:
        shown.add_row(
            record.event_id,
            str(record.order_number or "-"),
            record.recipient,
            record.state,
            record.smtp_reply or record.error,
        )
    out.print(shown if found.mails else "no mails")


@mail.command("show")
def show(event_id: EventId, config: ConfigOption = None) -> None:
    """Show one mail as it is sent."""
    shown = run(_ask(ShowMail(event_id=event_id), config))
    facts = table("", "")
    for name in shown.record.__struct_fields__:
        facts.add_row(name, str(getattr(shown.record, name)))
    out.print(facts)
    out.print()
    for line in shown.message.splitlines():
        out.print(line)


@mail.command("resend")
def resend(event_id: EventId, config: ConfigOption = None) -> None:
    """Send a mail again, under the same Message-ID."""
    record = run(_ask(ResendMail(event_id=event_id), config))
    out.print(f"the mail to {record.recipient} goes out again")


@mail.command("resolve")
def resolve(
    event_id: EventId,
    outcome: Annotated[Literal["sent", "resend"], typer.Argument(help="What is true of it, or is to be done.")],
    config: ConfigOption = None,
) -> None:
    """Settle a mail in state unknown: it was sent, or it is to be sent again."""
    record = run(_ask(ResolveMail(event_id=event_id, sent=outcome == "sent"), config))
    out.print(f"the mail to {record.recipient} is now {record.state}")


def trace(
    order: Annotated[str, typer.Argument(help="The order's id or number.")], config: ConfigOption = None
) -> None:
    """Show one order's whole way: request, idempotency key, outbox, relay, consumer, mail."""
    run(_trace(order, config))


async def _trace(order: str, config: ConfigOption) -> None:
    async with console("orders,email", config) as host:
        traced = await host.ask(TraceOrder(order=order))
        mails = (await host.ask(ListMails(event_ids=traced.events))).mails if traced.events else ()
        dead = [letter for letter in await host.events.dead_letters() if letter.event_id in traced.events]
    rows = [(step.at, step.what, step.detail) for step in traced.steps]
    rows += [(letter.died_at, f"dead letter in {letter.queue}", letter.reason) for letter in dead]
    for record in mails:
        rows.append((record.created_at, "mail in the ledger", f"to {record.recipient}, {record.message_id}"))
        said = record.smtp_reply or record.error
        detail = f"attempt {record.attempts}, sent again {record.resends} times{': ' + said if said else ''}"
        rows.append((record.updated_at, f"mail {record.state}", detail))
    shown = table("When (UTC)", "What", "Detail")
    for at, what, detail in sorted(rows, key=lambda row: (row[0] is None, row[0])):
        shown.add_row(f"{at:%F %T}" if at else "-", what, detail)
    if not dead and not mails:
        shown.add_row("-", "no mail yet", "the event has not reached role email")
    out.print(f"order {traced.order_number}, {traced.order_id}")
    out.print()
    out.print(shown)


async def _ask(message: Any, config: ConfigOption) -> Any:
    async with console("email", config) as host:
        return await host.ask(message)
