"""Examples for the API document: one order and what happened to it, as every route tells it."""

from typing import Any

ORDER_ID = "01a20481-297c-700c-a82d-3d9ac6bc1ffd"
_USER_ID = "01a20480-b1d2-7c11-9a55-0c6f6a1d2e3f"

PLACE = {
    "items": [{"product_id": 1, "quantity": 2}],
    "payment_method": "card",
    "shipping_address": {
        "recipient": "Ada Lovelace",
        "line1": "12 St James's Square",
        "city": "London",
        "postal_code": "SW1Y 4JH",
        "country": "GB",
    },
    "note": "ring twice",
}
ORDER: dict[str, Any] = {
    "id": ORDER_ID,
    "order_number": 10001,
    "user_id": _USER_ID,
    "status": "pending",
    "payment_status": "unpaid",
    "payment_method": "card",
    "currency": "EUR",
    "total_amount": 59.98,
    "items": [{"product_id": 1, "title": "Kettle", "quantity": 2, "price": 29.99, "total_amt": 59.98}],
    "shipping_address": PLACE["shipping_address"] | {"line2": "", "region": "", "phone": ""},  # type: ignore[operator]
    "note": "ring twice",
    "version": 1,
    "created_at": "2026-03-01T09:30:00.125000Z",
    "updated_at": "2026-03-01T09:30:00.125000Z",
}
CONFIRMED = ORDER | {
    "status": "confirmed",
    "payment_status": "paid",
    "version": 2,
    "updated_at": "2026-03-01T10:02:11.004000Z",
}
CANCELLED = ORDER | {"status": "cancelled", "version": 2, "updated_at": "2026-03-01T10:02:11.004000Z"}
ORDERS = {"orders": [ORDER], "next_cursor": ORDER_ID, "has_more": True}
_MAIL = {
    "id": 2,
    "at": "2026-03-01T09:30:01.480Z",
    "what": "mail_sent",
    "by": {"kind": "system", "id": None, "name": "the shop"},
    "reason": None,
    "request_id": None,
    "mail": {
        "kind": "order.created",
        "state": "sent",
        "event_id": None,
        "attempts": None,
        "resends": None,
        "smtp_reply": None,
        "error": None,
    },
}
TIMELINE = {
    "order_id": ORDER_ID,
    "order_number": 10001,
    "entries": [
        {
            "id": 1,
            "at": ORDER["created_at"],
            "what": "placed",
            "by": {"kind": "customer", "id": _USER_ID, "name": "Ada Lovelace"},
            "reason": None,
            "request_id": None,
            "mail": None,
        },
        _MAIL,
    ],
}
STREAM = (
    "retry: 2000\n\nid: 2\nevent: mail_sent\n"
    'data: {"id":2,"at":"2026-03-01T09:30:01.480Z","what":"mail_sent",...}\n\n: nothing new\n\n'
)
CSV = (
    "order_number,id,created_at,updated_at,status,payment_status,payment_method,currency,total_amount,quantity,"
    "items,user_id,user_name,user_email,recipient,line1,line2,city,region,postal_code,country,phone,note\r\n"
    f"10001,{ORDER_ID},2026-03-01T09:30:00.125000Z,2026-03-01T09:30:00.125Z,pending,unpaid,card,EUR,59.98,2,"
    f"2 x Kettle,{_USER_ID},Ada Lovelace,ada@example.com,Ada Lovelace,12 St James's Square,,London,,SW1Y 4JH,GB,,"
    "ring twice\r\n"
)
PRODUCT = {
    "id": 1,
    "title": "Kettle",
    "price": 29.99,
    "currency": "EUR",
    "image": "/catalog/images/1.svg",
    "description": "Boils water.",
    "brand": "Hearth",
    "model": "K1",
    "color": "steel",
    "category": "kitchen",
    "discount": 10,
}
PRODUCTS = {"products": [PRODUCT], "page": 1, "limit": 20}
