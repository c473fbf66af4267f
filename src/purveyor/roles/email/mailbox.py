"""The development mailbox, which stores each mail in a file and shows them."""

import asyncio
import email
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from email.utils import parseaddr
from pathlib import Path
from typing import Annotated, Any
from uuid import UUID

import msgspec
from litestar import MediaType, Response, get
from litestar.params import PathParameter

from purveyor.kit.errors import Forbidden, NotFound
from purveyor.kit.events.message import encode
from purveyor.kit.http.loopback import loopback_only
from purveyor.kit.http.mailbox import MAX_MAILBOX_LIMIT, MailboxLimit, Query, page_headers
from purveyor.kit.http.pages import html_page
from purveyor.kit.http.routes import Cursor, RouteGroup, answer, read_cursor, read_number
from purveyor.kit.http.web import ApiResponse
from purveyor.kit.ids import new_id, parse_id
from purveyor.roles.email.contract import (
    EmptyMailbox,
    FindMailbox,
    MailboxContent,
    MailboxFound,
    ReadMailbox,
)
from purveyor.roles.email.mime import bodies, decoded_header, decoded_headers
from purveyor.roles.email.ports import Claim
from purveyor.roles.email.rendering import Renderer
from purveyor.roles.email.template_check import SAMPLES

_KEPT_PARSED = 10_000
_SLOTS = 4
MessageId = Annotated[str, PathParameter(description="ID of the email in the mailbox")]
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


class MailboxEmail(MailboxMessage, frozen=True, kw_only=True):
    """A delivered email with its headers."""

    headers: Sequence[Sequence[str]]
    """Names with their decoded values, in the order of the message."""


class MailboxPage(msgspec.Struct, frozen=True):
    """A page of emails; ``total`` counts those on all pages."""

    messages: Sequence[MailboxMessage]
    next_cursor: str
    total: int


def _unlink(paths: Sequence[Path]) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _searched(mail: MailboxMessage) -> str:
    return "\n".join((mail.to, mail.subject, mail.text)).casefold()


def _parse(name: str, source: bytes) -> MailboxMessage:
    # The compat32 policy parses many times faster than the modern one, and these mails are our own.
    message = email.message_from_bytes(source)
    parts = bodies(message)
    return MailboxMessage(
        id=name,
        to=parseaddr(str(message["To"]))[1],
        subject=decoded_header(str(message["Subject"])),
        text=parts.get("text/plain", ""),
        html=parts.get("text/html", ""),
        sent_at=datetime.fromtimestamp((UUID(name).int >> 80) / 1000, UTC),
    )


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

    async def messages(self, limit: int, cursor: str = "", query: str = "") -> "MailboxPage":
        """Return up to ``limit`` emails that contain ``query``, newest first, after the one with id ``cursor``."""
        return await asyncio.to_thread(self._page, limit, cursor, query.strip().casefold())

    def _page(self, limit: int, cursor: str, query: str) -> "MailboxPage":
        names = sorted((path.stem for path in self._folder.glob("*.eml")), reverse=True)
        if query:
            names = [name for name in names if (found := self._find(name)) and query in _searched(found)]
        following = [name for name in names if not cursor or name < cursor]
        messages = [found for name in following[:limit] if (found := self._find(name))]
        return MailboxPage(messages, following[limit - 1] if len(following) > limit else "", len(names))

    def _find(self, name: str) -> MailboxMessage | None:
        """Return a stored email, or ``None`` if it was deleted meanwhile."""
        found = self._read.get(name)
        if found is None:
            try:
                found = self._read[name] = _parse(name, self._path(name).read_bytes())
            except FileNotFoundError:
                return None
            while len(self._read) > _KEPT_PARSED:
                self._read.pop(min(self._read), None)
        return found

    async def source(self, name: str) -> bytes:
        """Return an email as it was sent. Raises ``NotFound``."""
        try:
            return await asyncio.to_thread(self._path(name).read_bytes)
        except FileNotFoundError as error:
            raise NotFound("There is no such email in the development mailbox.") from error

    async def delete(self, name: str) -> None:
        """Delete an email, or all of them if ``name`` is empty. Raises ``NotFound``."""
        if name:
            await self.source(name)
        paths = [self._path(name)] if name else list(self._folder.glob("*.eml"))
        await asyncio.to_thread(_unlink, paths)
        for path in paths:
            self._read.pop(path.stem, None)

    def _path(self, name: str) -> Path:
        """Return the file of an email. Raises ``NotFound`` for a text that is no id."""
        if (found := parse_id(name)) is None:
            raise NotFound("There is no such email in the development mailbox.")
        return self._folder / f"{found}.eml"

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
        mailbox = self._require()
        if ask.part == "previews":
            return MailboxContent(content=encode(await asyncio.to_thread(_previews, self._renderer)).decode())
        if ask.part == "messages":
            page = await mailbox.messages(ask.limit, ask.cursor, ask.query)
            content = encode(page.messages).decode()
            return MailboxContent(content=content, next_cursor=page.next_cursor, total=page.total)
        source = await mailbox.source(ask.id)
        if ask.part == "source":
            return MailboxContent(content=source.decode("utf-8", "replace"))
        return MailboxContent(content=encode(_email(ask.id, source)).decode())

    async def empty(self, ask: EmptyMailbox) -> MailboxFound:
        await self._require().delete(ask.id)
        return MailboxFound(found=True)

    def _require(self) -> Mailbox:
        if self._mailbox is None:
            raise NotFound("There is no development mailbox.")
        return self._mailbox


def _email(name: str, source: bytes) -> MailboxEmail:
    headers = decoded_headers(email.message_from_bytes(source))
    return MailboxEmail(**msgspec.structs.asdict(_parse(name, source)), headers=headers)


def _previews(renderer: Renderer) -> list[Preview]:
    return [
        Preview(kind=kind, language=language, **msgspec.structs.asdict(renderer.render(kind, letter, language)))
        for kind, letter in SAMPLES.items()
        for language in renderer.languages
    ]


def _routes(mailbox: Mailbox, renderer: Renderer) -> list[Any]:
    group = RouteGroup("development", local=True, problems=(Forbidden,))

    @get("/mailbox", include_in_schema=False, before_request=loopback_only)
    async def show() -> Response[str]:
        return html_page("mailbox.html", development=True)

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

    return [show, previews, *_list_routes(mailbox, group), *_message_routes(mailbox, group)]


def _list_routes(mailbox: Mailbox, group: RouteGroup) -> list[Any]:
    @group.get(
        "/mailbox/messages",
        operation_id="list_mailbox",
        summary="List emails in the development mailbox",
        description="Newest first. Only available in development, and only from this machine.",
        headers={
            "Link": "Next page, if there is one (RFC 8288)",
            "X-Total-Count": "Number of emails on all pages",
        },
        responses=answer(
            list[MailboxMessage],
            "The emails.",
            [{"id": _MAIL_ID, "to": "ada@example.com", **_MAIL, "sent_at": "2026-03-01T09:30:01.480Z"}],
        ),
    )
    async def messages(limit: MailboxLimit = "50", cursor: Cursor = None, q: Query = "") -> Response[Any]:
        after = read_cursor(cursor)
        page = await mailbox.messages(read_number("limit", limit, MAX_MAILBOX_LIMIT), str(after or ""), q)
        return ApiResponse(page.messages, headers=page_headers(page.next_cursor, page.total, limit=limit, q=q))

    @group.delete(
        "/mailbox/messages",
        operation_id="empty_mailbox",
        summary="Delete all emails in the development mailbox",
        description="The mail ledger keeps its records.",
        response_description="The mailbox is empty.",
    )
    async def empty() -> None:
        await mailbox.delete("")

    return [messages, empty]


def _message_routes(mailbox: Mailbox, group: RouteGroup) -> list[Any]:
    @group.get(
        "/mailbox/messages/{message_id:str}",
        operation_id="get_mailbox_email",
        summary="Get an email in the development mailbox",
        description="With its headers.",
        responses=answer(
            MailboxEmail,
            "The email.",
            {"id": _MAIL_ID, "to": "ada@example.com", **_MAIL, "sent_at": "2026-03-01T09:30:01.480Z"}
            | {"headers": [["Subject", "Your order 10001"]]},
        ),
        problems=(NotFound,),
    )
    async def message(message_id: MessageId) -> Response[Any]:
        return ApiResponse(_email(message_id, await mailbox.source(message_id)))

    @group.get(
        "/mailbox/messages/{message_id:str}/source",
        operation_id="get_mailbox_source",
        summary="Get the source of an email in the development mailbox",
        description="The message as it would be sent (RFC 5322).",
        responses=answer(str, "The source.", "Subject: Your order 10001", media_type=MediaType.TEXT),
        problems=(NotFound,),
    )
    async def source(message_id: MessageId) -> str:
        return (await mailbox.source(message_id)).decode("utf-8", "replace")

    @group.delete(
        "/mailbox/messages/{message_id:str}",
        operation_id="delete_mailbox_email",
        summary="Delete an email in the development mailbox",
        description="The mail ledger keeps its record.",
        problems=(NotFound,),
        response_description="The email is deleted.",
    )
    async def delete(message_id: MessageId) -> None:
        await mailbox.delete(message_id)

    return [message, source, delete]
