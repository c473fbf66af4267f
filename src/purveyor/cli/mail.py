"""``app mail`` and ``app trace``: the mail ledger, and the history of an order."""

from typing import Annotated, Literal

import typer

from purveyor.cli.inspect import out, table
from purveyor.cli.mail_preview import preview
from purveyor.cli.options import ConfigOption, asked, reaching, run
from purveyor.roles.email.contract import Email, State
from purveyor.roles.orders.contract import Orders

mail = typer.Typer(no_args_is_help=True, help="Inspect, resend and resolve emails in the mail ledger.")

EventId = Annotated[str, typer.Argument(help="Event ID from app mail list.")]


@mail.command("list", epilog="Example: app mail list --state failed")
def list_mails(
    state: Annotated[State | None, typer.Option(help="Only emails in this state.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="Maximum number of emails.", min=1, max=1000)] = 50,
    config: ConfigOption = None,
) -> None:
    """List the latest emails."""
    found = run(asked(Email, lambda email: email.mails(state=state or "", limit=limit), config))
    shown = table("Event", "Order", "To", "State", "Reply")
    for place in (0, 1, 3):  # ids must stay copyable
        shown.columns[place].no_wrap = True
    for record in found:
        shown.add_row(
            record.event_id,
            str(record.order_number or "-"),
            record.recipient,
            record.state,
            record.smtp_reply or record.error,
        )
    out.print(shown if found else "No emails found.")


@mail.command("show", epilog="Example: app mail show 01a20481-2990-7f1e-9c3b-5d2e8a7b6c4f")
def show(event_id: EventId, config: ConfigOption = None) -> None:
    """Show an email as it is sent, with its ledger record."""
    shown = run(asked(Email, lambda email: email.show(event_id), config))
    facts = table("", "")
    for name in shown.record.__struct_fields__:
        facts.add_row(name, str(getattr(shown.record, name)))
    out.print(facts)
    out.print()
    for line in shown.message.splitlines():
        out.print(line)


@mail.command("resend", epilog="Example: app mail resend 01a20481-2990-7f1e-9c3b-5d2e8a7b6c4f")
def resend(event_id: EventId, config: ConfigOption = None) -> None:
    """Send an email again, with the same Message-ID."""
    record = run(asked(Email, lambda email: email.resend(event_id), config))
    out.print(f"The email to {record.recipient} will be sent again.")


@mail.command("resolve", epilog="Example: app mail resolve 01a20481-2990-7f1e-9c3b-5d2e8a7b6c4f sent")
def resolve(
    event_id: EventId,
    outcome: Annotated[Literal["sent", "resend"], typer.Argument(help="Mark it as sent, or resend it.")],
    config: ConfigOption = None,
) -> None:
    """Resolve an email in state unknown: mark it as sent, or send it again."""
    record = run(asked(Email, lambda email: email.resolve(event_id, sent=outcome == "sent"), config))
    out.print(f"The email to {record.recipient} is now {record.state}.")


mail.command("preview", epilog="Example: app mail preview order.created --language de --open")(preview)


def trace(
    order: Annotated[str, typer.Argument(help="Order ID or order number.")], config: ConfigOption = None
) -> None:
    """Show the history of an order, from request to email."""
    run(_trace(order, config))


async def _trace(order: str, config: ConfigOption) -> None:
    async with reaching(Orders, Email, profile=config, events=True) as host:
        traced = await host.port(Orders).trace(order)
        mails = await host.port(Email).mails(event_ids=traced.events) if traced.events else ()
        dead = [letter for letter in await host.events.dead_letters() if letter.event_id in traced.events]
    rows = [(step.at, step.what, step.detail) for step in traced.steps]
    rows += [(letter.died_at, f"dead letter in {letter.queue}", letter.reason) for letter in dead]
    for record in mails:
        rows.append((record.created_at, "mail in the ledger", f"to {record.recipient}, {record.message_id}"))
        said = record.smtp_reply or record.error
        detail = f"attempts {record.attempts}, resends {record.resends}{': ' + said if said else ''}"
        rows.append((record.updated_at, f"mail {record.state}", detail))
    shown = table("Time (UTC)", "Step", "Detail")
    for at, what, detail in sorted(rows, key=lambda row: (row[0] is None, row[0])):
        shown.add_row(f"{at:%F %T}" if at else "-", what, detail)
    if not dead and not mails:
        shown.add_row("-", "no mail yet", "role email has not received the event")
    out.print(f"order {traced.order_number}, {traced.order_id}")
    out.print()
    out.print(shown)
