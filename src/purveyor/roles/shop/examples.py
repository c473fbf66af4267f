"""Examples for the API document: a mail in the ledger, and an event that could not be handled."""

from typing import Any

_EVENT_ID = "01a20481-2990-7f1e-9c3b-5d2e8a7b6c4f"

MAIL: dict[str, Any] = {
    "event_id": _EVENT_ID,
    "kind": "order.created",
    "order_number": 10001,
    "recipient": "ada@example.com",
    "subject": "Your order 10001",
    "message_id": f"<{_EVENT_ID}.order.created@purveyor.local>",
    "state": "sent",
    "attempts": 1,
    "resends": 0,
    "smtp_reply": "250 2.0.0 Ok: queued",
    "error": "",
    "created_at": "2026-03-01T09:30:00.480Z",
    "updated_at": "2026-03-01T09:30:01.480Z",
    "next_attempt_at": None,
}
MAILS = {"mails": [MAIL]}
AGAIN = MAIL | {"state": "retry", "smtp_reply": "", "next_attempt_at": "2026-03-01T10:05:00.120Z"}
DEAD_LETTERS = {
    "dead_letters": [
        {
            "event_id": _EVENT_ID,
            "type": "order.created",
            "queue": "order.created",
            "attempts": 6,
            "reason": "the body is not an order.created event: missing required field `user_email`",
            "died_at": "2026-03-01T09:42:10.004Z",
        }
    ]
}
