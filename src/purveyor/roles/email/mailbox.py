"""The development mailbox: takes mails as an SMTP server would and shows them, a file for each."""

import asyncio
import email
import email.policy
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
from litestar import Response, get

from purveyor.kit.ids import new_id
from purveyor.kit.pages import html_page
from purveyor.roles.email.ports import Claim

_SHOWN = 2000
_SLOTS = 4


class MailboxMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A mail that arrived."""

    id: str
    to: str
    subject: str
    text: str
    html: str
    sent_at: datetime


class Mailbox:
    """Satisfies ``Mailer``. Each delivery is a new file, so that a doubled mail shows as two."""

    slots = _SLOTS

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, MailboxMessage] = {}
        folder.mkdir(parents=True, exist_ok=True)

    async def send(self, claim: Claim, before_dot: Callable[[], Awaitable[None]]) -> str:
        """See ``Mailer``."""
        await before_dot()
        name = str(new_id())
        await asyncio.to_thread(self._write, name, claim.message)
        return f"250 kept in the development mailbox as {name}"

    def _write(self, name: str, message: bytes) -> None:
        draft = self._folder / f"{name}.part"
        draft.write_bytes(message)
        draft.rename(self._folder / f"{name}.eml")

    async def messages(self) -> Sequence[MailboxMessage]:
        """The newest mails first, 2,000 at most."""
        return await asyncio.to_thread(self._newest)

    def _newest(self) -> Sequence[MailboxMessage]:
        names = sorted((path.stem for path in self._folder.glob("*.eml")), reverse=True)[:_SHOWN]
        self._read = {name: self._read.get(name) or self._parse(name) for name in names}
        return list(self._read.values())

    def _parse(self, name: str) -> MailboxMessage:
        raw = (self._folder / f"{name}.eml").read_bytes()
        message = email.message_from_bytes(raw, policy=email.policy.default)
        text, html = (message.get_body((kind,)) for kind in ("plain", "html"))
        return MailboxMessage(
            id=name,
            to=_address(message),
            subject=str(message["Subject"] or ""),
            text=text.get_content() if text else "",
            html=html.get_content() if html else "",
            sent_at=datetime.fromtimestamp((UUID(name).int >> 80) / 1000, UTC),
        )

    async def check(self) -> str:
        """See ``Mailer``."""
        return "development mailbox"


def _address(message: Any) -> str:
    recipients = message["To"].addresses if message["To"] else ()
    return recipients[0].addr_spec if recipients else ""


def mailbox_routes(mailbox: Mailbox) -> list[Any]:
    """The page and its JSON; only in development."""
    page = (files(__package__) / "mailbox_page.html").read_text(encoding="utf-8")

    @get("/mailbox", include_in_schema=False)
    async def show() -> Response[Any]:
        return html_page(page)

    @get("/mailbox/messages", tags=["development"], summary="The mails that were sent, newest first")
    async def messages() -> list[MailboxMessage]:
        return list(await mailbox.messages())

    return [show, messages]
