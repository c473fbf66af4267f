"""``app mail`` and ``app trace``: the mail ledger, and the history of an order."""

from datetime import datetime
from typing import Annotated, Literal

import typer

from purveyor.cli.help import GroupedHelp
from purveyor.cli.mail_preview import preview
from purveyor.cli.options import ConfigOption, asked, reaching, run
from purveyor.cli.output import JsonOption, out, print_json, table
from purveyor.kit.events.transport import DeadLetter
from purveyor.roles.email.contract import Email, MailRecord, State
from purveyor.roles.orders.contract import Orders, OrderTrace, TraceStep

mail = typer.Typer(
    cls=GroupedHelp,
    name="mail",
    no_args_is_help=True,
    help="Inspect, resend and resolve emails in the mail ledger.",
    epilog="Example: app mail list --state failed",
)

EventId = Annotated[str, typer.Argument(help="Event ID from app mail list.")]


@mail.command("list", epilog="Example: app mail list --state failed")
def list_mails(
    state: Annotated[State | None, typer.Option(help="Only emails in this state.", show_default=False)] = None,
    limit: Annotated[int, typer.Option(help="Maximum number of emails.", min=1, max=1000)] = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the latest emails."""
    found = run(asked(Email, lambda email: email.mails(state=state or "", limit=limit), config))
    if as_json:
        print_json(found)
        return
    shown = table(
        *("Event", "Email", "Order", "To", "State", "Next try (UTC)", "Reply"),
        whole=["Event", "Order", "State", "Next try (UTC)"],
        drop=["Reply", "Email", "To", "Order", "Next try (UTC)"],
    )
    for record in found:
        shown.add_row(
            record.event_id,
            record.kind,
            str(record.order_number or "-"),
            record.recipient,
            record.state,
            f"{record.next_attempt_at:%F %T}" if record.next_attempt_at else "-",
            record.smtp_reply or record.error,
        )
    out.print(shown if found else "No emails found.")


@mail.command("show", epilog="Example: app mail show 01a20481-2990-7f1e-9c3b-5d2e8a7b6c4f")
def show(
    event_id: EventId,
    source: Annotated[bool, typer.Option("--source", help="Print only the message as it is sent.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show an email with its ledger record, headers and text."""
    from purveyor.roles.email.mime import read_mail

    shown = run(asked(Email, lambda email: email.show(event_id), config))
    if source:
        typer.echo(shown.message, nl=False)
        return
    headers, text = read_mail(shown.message)
    if as_json:
        print_json({"record": shown.record, "headers": headers, "text": text, "message": shown.message})
        return
    facts = table("", "")
    facts.show_header = False
    for field in shown.record.__struct_fields__:
        facts.add_row(field, _shown(getattr(shown.record, field)))
    out.print(facts)
    for line in ("", *(f"{name}: {value}" for name, value in headers), "", *text.splitlines()):
        out.print(line)


def _shown(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%F %T} UTC"
    return "-" if value in (None, "") else str(value)


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
    order: Annotated[str, typer.Argument(help="Order ID or order number.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the history of an order, from request to email."""
    traced, steps = run(_trace(order, config))
    if as_json:
        print_json({"order_number": traced.order_number, "order_id": traced.order_id, "steps": steps})
        return
    shown = table("Time (UTC)", "Step", "Detail", whole=["Time (UTC)"], drop=["Detail"])
    for step in steps:
        shown.add_row(f"{step.at:%F %T}" if step.at else "-", step.what, step.detail)
    out.print(f"order {traced.order_number}, {traced.order_id}")
    out.print()
    out.print(shown)


async def _trace(order: str, config: ConfigOption) -> tuple[OrderTrace, list[TraceStep]]:
    async with reaching(Orders, Email, profile=config, events=True) as host:
        traced = await host.port(Orders).trace(order)
        mails = await host.port(Email).mails(event_ids=traced.events) if traced.events else ()
        dead = [letter for letter in await host.events.dead_letters() if letter.event_id in traced.events]
    steps = [*traced.steps, *map(_died, dead), *(step for record in mails for step in _mailed(record))]
    steps.sort(key=lambda step: (step.at is None, step.at))
    if not dead and not mails:
        steps.append(TraceStep(at=None, what="no mail yet", detail="role email has not received the event"))
    return traced, steps


def _died(letter: DeadLetter) -> TraceStep:
    return TraceStep(at=letter.died_at, what=f"dead letter in {letter.queue}", detail=letter.reason)


def _mailed(record: MailRecord) -> tuple[TraceStep, TraceStep]:
    said = record.smtp_reply or record.error
    detail = f"attempts {record.attempts}, resends {record.resends}{': ' + said if said else ''}"
    return (
        TraceStep(
            at=record.created_at, what="mail in the ledger", detail=f"to {record.recipient}, {record.message_id}"
        ),
        TraceStep(at=record.updated_at, what=f"mail {record.state}", detail=detail),
    )
