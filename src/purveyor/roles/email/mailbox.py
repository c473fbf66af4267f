"""The development mailbox, which stores each mail in a file and shows them."""

import asyncio
import email
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import Response, get
from litestar.params import QueryParameter

from purveyor.kit.errors import NotFound
from purveyor.kit.events.message import encode
from purveyor.kit.http.pages import html_page
from purveyor.kit.http.routes import RouteGroup, answer
from purveyor.kit.ids import new_id
from purveyor.roles.email.contract import FindMailbox, MailboxContent, MailboxFound, ReadMailbox
from purveyor.roles.email.mime import bodies
from purveyor.roles.email.ports import Claim
from purveyor.roles.email.rendering import Renderer
from purveyor.roles.email.template_check import SAMPLES

_KEPT_PARSED = 10_000
_SLOTS = 4
_MAIL_ID = "01a20481-2d6f-7b0a-8f0e-7c1d2e3f4a5b"
_MAIL = {
    "subject": "Your order 10001",
    "text": "Hello Ada Lovelace, Thank you for your order ...",
    "html": '<!doctype html><html lang="en">...</html>',
}


class MailboxMessage(msgspec.Struct, frozen=True, kw_only=True):
    """A delivered email."""

    id: str
    to: str
    subject: str
    text: str
    html: str
    sent_at: datetime


class Mailbox:
    """``Mailer`` that writes a new file per delivery, so that duplicates are visible."""

    slots = _SLOTS
    server = ""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read: dict[str, MailboxMessage] = {}
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    async def send(self, claim: Claim, before_dot: Callable[[], Awaitable[None]]) -> str:
        await before_dot()
        name = str(new_id())
        await asyncio.to_thread(self._write, name, claim.message)
        return f"250 stored in the development mailbox as {name}"

    def _write(self, name: str, message: bytes) -> None:
        draft = self._folder / f"{name}.part"
        draft.write_bytes(message)
        draft.rename(self._folder / f"{name}.eml")

    async def messages(self, limit: int) -> Sequence[MailboxMessage]:
        return await asyncio.to_thread(self._newest, limit)

    def _newest(self, limit: int) -> Sequence[MailboxMessage]:
        names = sorted((path.stem for path in self._folder.glob("*.eml")), reverse=True)[:limit]
        found = {name: self._read.get(name) or self._parse(name) for name in names}
        self._read.update(found)
        while len(self._read) > _KEPT_PARSED:
            del self._read[min(self._read)]
        return list(found.values())

    def _parse(self, name: str) -> MailboxMessage:
        # The compat32 policy parses many times faster than the modern one, and these mails are our own.
        message = email.message_from_bytes((self._folder / f"{name}.eml").read_bytes())
        parts = bodies(message)
        return MailboxMessage(
            id=name,
            to=parseaddr(str(message["To"]))[1],
            subject=str(make_header(decode_header(str(message["Subject"])))),
            text=parts.get("text/plain", ""),
            html=parts.get("text/html", ""),
            sent_at=datetime.fromtimestamp((UUID(name).int >> 80) / 1000, UTC),
        )

    async def check(self) -> str:
        return "development mailbox"


class Preview(msgspec.Struct, frozen=True, kw_only=True):
    """An email with sample data."""

    kind: str
    language: str
    subject: str
    text: str
    html: str


class MailboxPages:
    """Serves the development mailbox, if any, by its own routes and to the shop in another process."""

    def __init__(self, mailbox: Mailbox | None, renderer: Renderer) -> None:
        self._mailbox = mailbox
        self._renderer = renderer

    def routes(self) -> list[Any]:
        return [] if self._mailbox is None else _routes(self._mailbox, self._renderer)

    async def find(self, _ask: FindMailbox) -> MailboxFound:
        return MailboxFound(found=self._mailbox is not None)

    async def read(self, ask: ReadMailbox) -> MailboxContent:
        if self._mailbox is None:
            raise NotFound("There is no development mailbox.")
        if ask.part == "previews":
            return MailboxContent(content=encode(await asyncio.to_thread(_previews, self._renderer)).decode())
        return MailboxContent(content=encode(await self._mailbox.messages(ask.limit)).decode())


def _previews(renderer: Renderer) -> list[Preview]:
    return [
        Preview(kind=kind, language=language, **msgspec.structs.asdict(renderer.render(kind, letter, language)))
        for kind, letter in SAMPLES.items()
        for language in renderer.languages
    ]


def _routes(mailbox: Mailbox, renderer: Renderer) -> list[Any]:
    group = RouteGroup("development")

    @get("/mailbox", include_in_schema=False)
    async def show() -> Response[str]:
        return html_page("mailbox.html", development=True)

    @group.get(
        "/mailbox/messages",
        operation_id="list_mailbox",
        summary="List emails in the development mailbox",
        description="Newest first. Only available in development.",
        responses=answer(
            list[MailboxMessage],
            "The emails.",
            [{"id": _MAIL_ID, "to": "ada@example.com", **_MAIL, "sent_at": "2026-03-01T09:30:01.480Z"}],
        ),
    )
    async def messages(
        limit: Annotated[int, QueryParameter(ge=1, le=10_000, description="Maximum number of emails")] = 10_000,
    ) -> list[MailboxMessage]:
        return list(await mailbox.messages(limit))

    @group.get(
        "/mailbox/previews",
        operation_id="preview_mails",
        summary="Preview all emails",
        description="Every kind of email in every language, rendered from the active templates with sample data.",
        responses=answer(list[Preview], "The emails.", [{"kind": "order.created", "language": "en", **_MAIL}]),
        sync_to_thread=True,
    )
    def previews() -> list[Preview]:
        return _previews(renderer)

    return [show, messages, previews]
