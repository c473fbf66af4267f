"""The mail ledger's documents in MongoDB, with their keys and updates."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pymongo

from purveyor.kit.events.message import Cause
from purveyor.roles.email.contract import MailRecord
from purveyor.roles.email.ports import DOUBT_PAUSE_S, Account, Claim, DoubtPolicy, Lease, NewMail, Report
from purveyor.roles.email.turns import Place

Document = dict[str, Any]
Condition = str | Mapping[str, Any]
Change = list[Document]
"""An update as an aggregation pipeline, in which ``$$NOW`` is the server's time."""

DUE: Condition = {"$in": ["pending", "retry"]}
UNSENT: Condition = {"$in": ["pending", "retry", "claimed"]}
IN_HAND: Condition = {"$in": ["claimed", "data"]}
SETTLED: Condition = {"$in": ["sent", "failed", "unknown", "retry"]}
_REPORTED = ("sent", "failed", "unknown")
WITH_RECIPIENT: Document = {"recipient": {"$gt": ""}}
WITH_TEXT: Document = {"message": {"$gt": b""}}
"""Matches mails whose text was neither erased nor emptied."""
SHOWN = dict.fromkeys(MailRecord.__struct_fields__, 1) | {"_id": 0}
"""Projection to the fields of a ``MailRecord``."""
WITH_MESSAGE = {**SHOWN, "message": 1}


def key(mail: NewMail | Lease | MailRecord) -> str:
    """Return the ``_id``, one per event, kind and recipient."""
    return f"{mail.event_id}/{mail.kind}/{mail.recipient}"


def erased_key(mail: NewMail) -> str:
    """Return the ``_id`` of the document that replaces an erased mail."""
    return f"{mail.event_id}/{mail.kind}/"


def new_document(mail: NewMail, now: datetime) -> Document:
    """Return the document of a new mail that is due ``now``."""
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
        "doubted": False,
        "owner": None,
        "next_attempt_at": now,
        "smtp_reply": "",
        "error": "",
        "created_at": mail.created_at,
        "updated_at": now,
        "order_id": mail.order_id,
        "sequence": mail.sequence,
        "user_id": mail.user_id,
        "mailbox": mail.mailbox,
        "request_id": mail.request_id,
        "traceparent": mail.traceparent,
    }


def claim_of(document: Document) -> Claim:
    """Return the claim on a document's mail."""
    return Claim(
        event_id=document["event_id"],
        kind=document["kind"],
        recipient=document["recipient"],
        message_id=document["message_id"],
        message=bytes(document["message"]),
        owner=document["owner"],
        attempt=document["attempts"],
        created_at=document["created_at"],
        resends=document["resends"],
        order_id=document.get("order_id", ""),
        mailbox=document.get("mailbox", ""),
        request_id=document.get("request_id", ""),
        traceparent=document.get("traceparent", ""),
    )


def unsent(now: datetime) -> Mapping[str, Document]:
    """Return the conditions for mails that are not sent yet, by the names that ``Ledger.waiting`` returns."""
    return {
        "due": {"state": DUE, "next_attempt_at": {"$lte": now}},
        "later": {"state": DUE, "next_attempt_at": {"$gt": now}},
        "claimed": {"state": IN_HAND},
    }


def place_of(document: Document) -> Place:
    """Return the mail's place among those about its order. Old documents lack the sequence."""
    values = {name: document[name] for name in Place.__struct_fields__ if name != "sequence"}
    return Place(**values, sequence=document.get("sequence", 0))


def put_back(claim: Claim, before: Document, due_at: datetime, **values: str) -> pymongo.UpdateOne:
    """Undo a claim until the mail is due again. ``before`` is the document from before the claim."""
    mine = {"_id": key(claim), "owner": claim.owner, "attempts": claim.attempt, "state": "claimed"}
    old = {name: before[name] for name in ("state", "attempts", "updated_at")}
    return pymongo.UpdateOne(mine, {"$set": {**old, **values, "owner": None, "next_attempt_at": due_at}})


PLACE = dict.fromkeys(("order_id", *Place.__struct_fields__), 1)
"""Projection to the fields of a ``Place``."""


def of_account(account: Account) -> Document:
    """Filter the mails of an account; old documents lack the account and are found by the address."""
    ours = [{"order_id": {"$gt": ""}}, {"kind": {"$regex": "^user\\."}}]
    old = {"user_id": None, "recipient": account.address, "$or": ours}
    return {"$and": [WITH_RECIPIENT, {"$or": [{"user_id": account.user_id}, old]}]}


def shown(document: Document) -> tuple[MailRecord, bytes]:
    """Return the record and the message of a document ``WITH_MESSAGE``."""
    message = bytes(document.pop("message"))
    return record_of(document), message


def record_of(document: Document) -> MailRecord:
    """Return the record of a document with the fields ``SHOWN``."""
    next_attempt_at = document["next_attempt_at"] if document["state"] in ("pending", "retry") else None
    return MailRecord(**document | {"next_attempt_at": next_attempt_at})


def following(record: MailRecord) -> Document:
    """Filter the records that follow one by ``created_at`` and ``_id``."""
    later = {"created_at": {"$gt": record.created_at}}
    return {"$or": [later, {"created_at": record.created_at, "_id": {"$gt": key(record)}}]}


def change(*, due_in_s: float | None = None, attempts: int = 0, resends: int = 0, **values: object) -> Change:
    """Set ``values``, increment the counters and set the due time."""
    # Literals, since a reply that starts with a dollar sign would be taken for a field name.
    fields: Document = {name: {"$literal": value} for name, value in values.items()}
    fields["updated_at"] = "$$NOW"
    if "state" in values:
        # Old documents lack order_id, and a missing value is less than any text.
        fields["unreported"] = {"$gt": ["$order_id", ""]} if values["state"] in _REPORTED else False
    if due_in_s is not None:
        fields["next_attempt_at"] = {"$add": ["$$NOW", int(due_in_s * 1000)]}
    for name, more in (("attempts", attempts), ("resends", resends)):
        if more:
            fields[name] = {"$add": [f"${name}", more]}
    return [{"$set": fields}]


def doubt(error: str, policy: DoubtPolicy) -> Change:
    """Make a doubtful mail due again the first time, else park it for an operator."""
    parked = change(state="unknown", owner=None, error=error, doubted=True, due_in_s=0)
    if policy == "park":
        return parked
    again = change(state="retry", owner=None, error=error, doubted=True, resends=1, due_in_s=DOUBT_PAUSE_S)
    # Old documents lack doubted, and a missing value counts as false.
    return [
        {
            "$set": {
                name: {"$cond": ["$doubted", parked[0]["$set"].get(name, f"${name}"), value]}
                for name, value in again[0]["$set"].items()
            }
        }
    ]


def held_or_freed(claim: Lease) -> Document:
    """Filter the claim's mail at ``data``, or freed by another sender and not taken since."""
    held = {"owner": claim.owner, "state": "data"}
    freed = {"owner": None, "state": {"$in": ["retry", "unknown"]}}
    return {"_id": key(claim), "attempts": claim.attempt, "$or": [held, freed]}


def report_of(document: Document) -> Report:
    """Return the report on a document's mail."""
    order_id, request_id = document.pop("order_id"), document.pop("request_id")
    # Old documents lack traceparent.
    cause = Cause(correlation_id=request_id, traceparent=document.pop("traceparent", ""))
    return Report(record_of(document), order_id, cause)


def mark_reported(report: Report) -> pymongo.UpdateOne:
    """Mark a mail as reported, unless the record has changed since."""
    record = report.record
    same = {"_id": key(record), "state": record.state, "resends": record.resends}
    return pymongo.UpdateOne(same, {"$set": {"unreported": False}})


def erased_document(document: Document) -> Document:
    """Return the document without personal data. The key changes too, since it contains the address."""
    return document | {
        "_id": f"{document['event_id']}/{document['kind']}/",
        "recipient": "",
        "subject": "",
        "message": b"",
        "user_id": "",
        "mailbox": "",
        "state": "sent" if document["state"] == "sent" else "failed",
        "owner": None,
        "smtp_reply": "",
        "error": "erased",
        "unreported": False,
    }


def erasure(document: Document, now: datetime) -> list[pymongo.ReplaceOne[Document] | pymongo.DeleteOne]:
    """Replace a document by one without personal data.

    The order makes it safe to repeat: the replacement first blocks the event from being mailed again.
    """
    kept = erased_document(document) | {"updated_at": now}
    replace = pymongo.ReplaceOne({"_id": kept["_id"]}, kept, upsert=True)
    return [replace, pymongo.DeleteOne({"_id": document["_id"]})]
