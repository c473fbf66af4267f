"""The mail ledger's documents in MongoDB: their keys, their indexes, and the updates that change them."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pymongo

from purveyor.roles.email.contract import MailRecord
from purveyor.roles.email.ports import Claim, DoubtPolicy, NewMail

Document = dict[str, Any]
Condition = str | Mapping[str, Any]
Change = list[Document]
"""An update as an aggregation pipeline, in which ``$$NOW`` is the server's time."""

DUE: Condition = {"$in": ["pending", "retry"]}
IN_HAND: Condition = {"$in": ["claimed", "data"]}
SETTLED: Condition = {"$in": ["sent", "failed", "unknown", "retry"]}
MAIL_INDEXES = (
    pymongo.IndexModel([("state", 1), ("next_attempt_at", 1)], name="due"),
    pymongo.IndexModel([("state", 1), ("owner", 1)], name="in_hand"),
    pymongo.IndexModel([("state", 1), ("event_id", -1)], name="by_state"),
    pymongo.IndexModel([("event_id", -1)], name="newest"),
)
SENDER_INDEXES = (pymongo.IndexModel([("seen_at", 1)], name="seen_at", expireAfterSeconds=3600),)
"""The documents of senders that are long dead go by themselves."""
SHOWN = dict.fromkeys(MailRecord.__struct_fields__, 1) | {"_id": 0}
"""The projection to the fields of a ``MailRecord``."""


def key(mail: NewMail | Claim) -> str:
    """The ``_id``: one document per event, kind and recipient."""
    return f"{mail.event_id}/{mail.kind}/{mail.recipient}"


def new_document(mail: NewMail, now: datetime) -> Document:
    """A mail that was not tried yet, due ``now``."""
    return {
        "_id": key(mail),
        "event_id": mail.event_id,
        "kind": mail.kind,
        "order_number": mail.order_number,
        "recipient": mail.recipient,
        "subject": mail.subject,
        "message_id": mail.message_id,
        "message": mail.message,
        "state": "pending",
        "attempts": 0,
        "resends": 0,
        "owner": None,
        "next_attempt_at": now,
        "smtp_reply": "",
        "error": "",
        "created_at": mail.created_at,
        "updated_at": now,
    }


def claim_of(document: Document) -> Claim:
    """The claim that a document holds."""
    return Claim(
        event_id=document["event_id"],
        kind=document["kind"],
        recipient=document["recipient"],
        message_id=document["message_id"],
        message=bytes(document["message"]),
        owner=document["owner"],
        attempt=document["attempts"],
        created_at=document["created_at"],
    )


def change(*, due_in_s: float | None = None, attempts: int = 0, resends: int = 0, **values: object) -> Change:
    """Set ``values``, add to the counters, be due in so many seconds."""
    # A literal, or else a reply that begins with a dollar sign would be read as a field's name.
    fields: Document = {name: {"$literal": value} for name, value in values.items()}
    fields["updated_at"] = "$$NOW"
    if due_in_s is not None:
        fields["next_attempt_at"] = {"$add": ["$$NOW", int(due_in_s * 1000)]}
    for name, more in (("attempts", attempts), ("resends", resends)):
        if more:
            fields[name] = {"$add": [f"${name}", more]}
    return [{"$set": fields}]


def doubt(error: str, policy: DoubtPolicy) -> Change:
    """What becomes of a doubtful mail: due again, or parked for an operator."""
    if policy == "park":
        return change(state="unknown", owner=None, error=error, due_in_s=0)
    return change(state="retry", owner=None, error=error, resends=1, due_in_s=0)


def held_or_freed(claim: Claim) -> Document:
    """The claim's mail at ``data``; or freed by another sender meanwhile, and not taken yet."""
    held = {"owner": claim.owner, "state": "data"}
    freed = {"owner": None, "state": {"$in": ["retry", "unknown"]}}
    return {"_id": key(claim), "attempts": claim.attempt, "$or": [held, freed]}
