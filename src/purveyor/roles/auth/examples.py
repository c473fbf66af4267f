"""Examples for the API document: one person, as every route tells of her."""

from typing import Any

_ID = "01890a5d-ac96-774b-bcce-b302099a8057"
_ADDRESS_ID = "01890a5d-b201-7c55-8d1e-0f6a2b3c4d5e"
_SESSION_ID = "01890a5e-0c3f-7aa1-9e42-6b7c8d9eaf01"
_AT = "2026-03-01T09:30:00.125Z"
_PASSWORD, _NEW_PASSWORD = "correct horse battery staple", "a whole new password"
_ACCESS_TOKEN = "eyJhbGciOiJIUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiIwMTg5MGE1ZCJ9.c2lnbmF0dXJl"  # noqa: S105
_REFRESH_TOKEN = "AYkKXgw_eqGeQmt8jZ6vAQAAAADkB1mQpS0cVb8uYxN3rTfLwZ2kHj6aGdEoXiUvCnRqMw"  # noqa: S105
_MAILED_TOKEN = "m0Zq1w6vB3n8J5kXr2tYp9uLd4sHc7fGaEiVoWbNeQs"  # noqa: S105

REGISTER = {"email": "ada@example.com", "password": _PASSWORD, "name": "Ada Lovelace", "language": "en"}
ACCOUNT: dict[str, Any] = {
    "id": _ID,
    "email": "ada@example.com",
    "name": "Ada Lovelace",
    "phone": "",
    "language": "en",
    "role": "customer",
    "created_at": _AT,
}
CHANGE = {"phone": "+44 20 7946 0958"}
CHANGED = ACCOUNT | CHANGE
NEW_ADDRESS = {
    "recipient": "Ada Lovelace",
    "line1": "12 St James's Square",
    "city": "London",
    "postal_code": "SW1Y 4JH",
    "country": "GB",
    "is_default": True,
}
ADDRESS = {"id": _ADDRESS_ID, **NEW_ADDRESS, "line2": "", "region": "", "phone": ""}
ADDRESSES = [ADDRESS]
PROFILE = ACCOUNT | {"addresses": [ADDRESS]}
LOGIN = {"email": "ada@example.com", "password": _PASSWORD}
PAIR = {
    "access_token": _ACCESS_TOKEN,
    "token_type": "bearer",
    "expires_in": 600,
    "refresh_token": _REFRESH_TOKEN,
}
TOKEN = {"token": _ACCESS_TOKEN}
REFRESH = {"refresh_token": _REFRESH_TOKEN}
VERIFIED = {
    "active": True,
    "sub": _ID,
    "user_id": _ID,
    "email": "ada@example.com",
    "name": "Ada Lovelace",
    "role": "customer",
    "exp": 1772357400,
}
PASSWORD = {"current_password": _PASSWORD, "new_password": _NEW_PASSWORD}
FORGOT = {"email": "ada@example.com"}
FORGOTTEN = {"detail": "If there is an account with this address, a mail is on its way."}
RESET = {"token": _MAILED_TOKEN, "password": _NEW_PASSWORD}
USERS = {"users": [ACCOUNT], "next_cursor": _ID, "has_more": True}
ACCESS = {"role": "staff"}
EMPLOYEE = ACCOUNT | ACCESS
EXPORT = {
    "requested_at": _AT,
    "complete": True,
    "profile": ACCOUNT,
    "addresses": [ADDRESS],
    "sessions": [
        {"id": _SESSION_ID, "created_at": _AT, "refreshed_at": _AT, "expires_at": "2026-03-31T09:30:00.125Z"}
    ],
    "orders": [{"order_number": 10001, "status": "delivered", "total_amount": 59.98}],
    "mails": [{"kind": "order.created", "order_number": 10001, "state": "sent"}],
}
PARTIAL_EXPORT = EXPORT | {"complete": False, "mails": []}
