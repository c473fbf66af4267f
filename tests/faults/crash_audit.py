"""What must hold after every crash: nothing lost, doubled or stuck, and each mail where it should be."""

from collections.abc import Sequence

from faults.crash_installation import Installation, until
from faults.crash_rows import Placed, Row
from purveyor.roles.email.contract import MailRecord
from purveyor_drill.servers.smtp import Received
from real_servers import SERVERS

DUPLICATES = "duplicates"
"""Name of the recorded property: crash point, number of mails sent more than once."""
FINAL = ("sent", "failed", "unknown")


async def audit(installation: Installation, row: Row, placed: Sequence[Placed]) -> int:
    """Fail for whatever is wrong; how many mails were sent more than once."""
    duplicates = 0
    for one in placed:
        event_id = await _one_order_one_event(installation, one)
        record = await _one_record(installation, event_id)
        mails = [mail for mail in SERVERS.smtp.messages() if mail.message_id == record.message_id]
        _judge(installation, row, record, mails)
        duplicates += max(0, len(mails) - 1)
    await installation.settle()
    return duplicates


async def _one_order_one_event(installation: Installation, one: Placed) -> str:
    """The client's retry finds one order, always with the same answer; the id of its one event."""
    answer = await installation.insist(one.key)
    again = await installation.insist(one.key)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.content == answer.content
    if one.first is not None and one.first.status_code == 201:
        assert one.first.content == answer.content
    (order,) = await installation.orders(one.key)
    assert (order["id"], order["number"]) == (answer.json()["id"], answer.json()["order_number"])
    (event,) = await installation.events(order["id"])
    found: str = event["id"]
    return found


async def _one_record(installation: Installation, event_id: str) -> MailRecord:
    async def settled() -> MailRecord | None:
        records = await installation.ledger.list("", (event_id,), 5)
        assert len(records) <= 1
        return next((record for record in records if record.state in FINAL), None)

    found: MailRecord = await until(settled, f"the mail of event {event_id} is settled")
    return found


def _judge(installation: Installation, row: Row, record: MailRecord, mails: Sequence[Received]) -> None:
    sent = int(row.reached) if row.doubtful else 1
    if not row.doubtful:
        expected = ("sent", 0, sent)
    elif installation.policy == "park":
        expected = ("unknown", 0, sent)
    else:
        expected = ("sent", 1, sent + 1)
    assert (record.state, record.resends, len(mails)) == expected
    assert len({mail.content for mail in mails}) <= 1
