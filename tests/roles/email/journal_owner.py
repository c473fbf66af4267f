"""A process that notes a mail in its journal, and waits to be killed: its folder, an event id and an owner.

Run as ``python journal_owner.py FOLDER EVENT_ID OWNER``; says ``ready`` when it is noted.
"""

import signal
import sys
from pathlib import Path

from purveyor.kit.clock import now
from purveyor.roles.email.journal import Journals
from purveyor.roles.email.ports import Claim


def claim_of(event_id: str, owner: str, attempt: int = 1) -> Claim:
    """What a sender knows of the mail that it sends."""
    return Claim(
        event_id=event_id,
        kind="order.created",
        recipient="ann@b.test",
        owner=owner,
        attempt=attempt,
        message_id=f"<{event_id}@shop.test>",
        message=b"Subject: x\r\n\r\n",
        created_at=now(),
    )


if __name__ == "__main__":
    with Journals(Path(sys.argv[1])).opened() as journal:
        journal.accepted(claim_of(sys.argv[2], sys.argv[3]), "250 noted")
        print("ready", flush=True)
        signal.pause()
