"""The declaration of role email."""

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from purveyor.kit.errors import ConfigError
from purveyor.kit.process.background import Background
from purveyor.kit.role import Actor, Check, Env, Role
from purveyor.roles.auth.contract import (
    PasswordResetRequested,
    UserErased,
    UserExportRequested,
    UserRegistered,
)
from purveyor.roles.email.contract import (
    ListMails,
    MailDataErased,
    MailDataExported,
    MailSettled,
    RecoverClaims,
    ResendMail,
    ResolveMail,
    ShowMail,
    WhichUnrecorded,
)
from purveyor.roles.email.ports import DoubtPolicy, Ledger
from purveyor.roles.orders.contract import (
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderDelivered,
    OrderShipped,
)
from purveyor.settings import Secret, Url, require_scheme

if TYPE_CHECKING:  # it brings the templates' engine with it, and declarations are read without starting anything
    from purveyor.roles.email.rendering import Renderer

log = logging.getLogger(__name__)

MAILED = (
    *(OrderCreated, OrderConfirmed, OrderShipped, OrderDelivered, OrderCancelled),
    *(UserRegistered, PasswordResetRequested),
)
"""The events that a mail tells of."""


class EmailSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of role email."""

    mongodb_uri: Annotated[Url, Meta(description="mail ledger in MongoDB; empty: in PostgreSQL")] = Url()
    smtp_url: Annotated[
        Url,
        Meta(description="smtp://, smtps:// or smtp+starttls://user:pass@host:port; empty: see EMAIL_USER"),
    ] = Url()
    email_user: Annotated[str, Meta(description="SMTP user; without SMTP_URL: of Gmail")] = ""
    email_pass: Annotated[Secret, Meta(description="SMTP password")] = Secret()
    email_from: Annotated[
        str, Meta(description="sender; empty: EMAIL_USER, else Purveyor <orders@purveyor.local>")
    ] = ""
    mail_doubtful: Annotated[
        DoubtPolicy, Meta(description="a mail that may have been sent: resend it once, or park it as unknown")
    ] = "resend"
    mail_keep_days: Annotated[
        int, Meta(ge=0, le=36500, description="days until the text of a sent mail is emptied; 0: never")
    ] = 90
    smtp_ca_file: Annotated[
        Path | None,
        Meta(description="certificates (PEM) to trust besides the system's, for a private SMTP server"),
    ] = None
    mail_templates: Annotated[
        Path | None, Meta(description="folder with mail templates of your own; empty: the built-in ones")
    ] = None
    public_url: Annotated[
        Url, Meta(description="base URL of the shop's pages, for links in mails; empty: mails have none")
    ] = Url()

    def __post_init__(self) -> None:
        require_scheme("PUBLIC_URL", self.public_url, "http", "https")
        if self.public_url and not _is_base_url(self.public_url):
            raise ConfigError(
                "PUBLIC_URL: expected a host, and nothing behind the path, as in https://shop.example."
            )

    @property
    def has_smtp(self) -> bool:
        """Whether mails leave over SMTP; else they land in the development mailbox."""
        return bool(self.smtp_url or self.email_user)

    @property
    def sender(self) -> str:
        """Who mails come from."""
        return self.email_from or self.email_user or "Purveyor <orders@purveyor.local>"


def _is_base_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    return bool(parts.hostname) and not re.search(r"[\s?#]", url)


def check(settings: EmailSettings, production: bool) -> None:  # noqa: FBT001 - the signature of all checks
    """A sender, a server and templates of the operator's own that can be used."""
    if settings.email_from or settings.email_pass or settings.has_smtp:
        from purveyor.roles.email.delivery import check_delivery

        check_delivery(settings)
    if settings.mail_templates:
        from purveyor.roles.email.template_check import check_templates

        check_templates(settings.mail_templates)


@asynccontextmanager
async def build(env: Env, settings: EmailSettings) -> AsyncIterator[Actor]:
    """Start role email."""
    from purveyor.roles.email.delivery import delivery_check, mailbox_pages, open_mailer
    from purveyor.roles.email.journal import Journals
    from purveyor.roles.email.privacy import PersonalData, Retention
    from purveyor.roles.email.reports import Reports
    from purveyor.roles.email.sender import Sender
    from purveyor.roles.email.service import Audit, Mails

    async with AsyncExitStack() as stack:
        ledger = await _open_ledger(env, settings, stack)
        mailer = open_mailer(env, settings, stack)
        reports = Reports(ledger, env.events)
        journals = Journals(env.data_dir / "sender-journals" / ("mongodb" if settings.mongodb_uri else "postgres"))
        sender = Sender(ledger, mailer, settings.mail_doubtful, journals=journals, settled=reports.wake)
        renderer = _renderer(settings)
        mails = Mails(ledger, renderer, settings.sender, sender.wake)
        personal_data, retention = PersonalData(ledger, env.events), Retention(ledger, settings.mail_keep_days)
        audit = Audit(ledger, journals, settings.mail_doubtful)
        yield Actor(
            routes=mailbox_pages(env, mailer, renderer),
            answers={
                ListMails: mails.list,
                ShowMail: mails.show,
                ResendMail: mails.resend,
                ResolveMail: mails.resolve,
                WhichUnrecorded: audit.which_unrecorded,
                RecoverClaims: audit.recover,
            },
            subscriptions={
                **dict.fromkeys(MAILED, mails.write),
                UserErased: personal_data.erase,
                UserExportRequested: personal_data.export,
            },
            background=_tasks(sender=sender.run, reports=reports.run, retention=retention.run),
            checks=[_ledger_check(env, settings, ledger), delivery_check(env, settings, mailer)],
        )


def _tasks(**runs: Callable[[], Awaitable[None]]) -> list[Background]:
    return [Background(name, run) for name, run in runs.items()]


def _ledger_check(env: Env, settings: EmailSettings, ledger: Ledger) -> Check:
    if not settings.mongodb_uri:
        return Check("mail ledger", env.database_kind, ledger.check)
    required = env.console  # orders go on without it, and events wait: only this role has business there
    server = ledger.server
    return Check("mail ledger", "external", ledger.check, required=required, server=server, setting="MONGODB_URI")


def _renderer(settings: EmailSettings) -> "Renderer":
    from purveyor.roles.email.mail_models import Shop
    from purveyor.roles.email.mime import sender_parts
    from purveyor.roles.email.rendering import Renderer

    shop = Shop(name=sender_parts(settings.sender)[0] or "Purveyor", url=settings.public_url.rstrip("/"))
    return Renderer(shop, settings.mail_templates)


async def _open_ledger(env: Env, settings: EmailSettings, stack: AsyncExitStack) -> Ledger:
    if settings.mongodb_uri:
        from purveyor.roles.email.ledger.mongo import open_ledger

        return await env.reach(lambda: stack.enter_async_context(open_ledger(settings.mongodb_uri)))
    from purveyor.roles.email.ledger.postgres import PostgresLedger

    return PostgresLedger(await stack.enter_async_context(env.database()))


ROLE = Role(
    name="email",
    serves="mails about orders and accounts, the mail ledger, the development mailbox",
    settings=EmailSettings,
    build=build,
    check=check,
    emits=(MailSettled, MailDataErased, MailDataExported),
    has_outbox=False,
    consumes={event: event.type for event in (*MAILED, UserErased, UserExportRequested)},
    migrations=Path(__file__).with_name("migrations"),
    in_postgres=lambda settings: not settings.mongodb_uri,
)
