"""The declaration of role email."""

import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from purveyor.kit.role import Actor, Background, Check, Env, Role
from purveyor.roles.email.contract import ListMails, ResendMail, ResolveMail, ShowMail
from purveyor.roles.email.ports import DoubtPolicy, Ledger, Mailer
from purveyor.roles.orders.contract import OrderCreated
from purveyor.settings import Secret, Url

log = logging.getLogger(__name__)


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
        DoubtPolicy, Meta(description="a mail that may have been sent: resend it, or park it as unknown")
    ] = "resend"
    smtp_ca_file: Annotated[
        Path | None,
        Meta(description="certificates (PEM) to trust besides the system's, for a private SMTP server"),
    ] = None

    @property
    def has_smtp(self) -> bool:
        """Whether mails leave over SMTP; else they land in the development mailbox."""
        return bool(self.smtp_url or self.email_user)

    @property
    def sender(self) -> str:
        """Who mails come from."""
        return self.email_from or self.email_user or "Purveyor <orders@purveyor.local>"


@asynccontextmanager
async def build(env: Env, settings: EmailSettings) -> AsyncIterator[Actor]:
    """Start role email."""
    from purveyor.roles.email.mailbox import Mailbox, mailbox_routes
    from purveyor.roles.email.sender import Sender
    from purveyor.roles.email.service import Mails

    async with AsyncExitStack() as stack:
        ledger = await _open_ledger(env, settings, stack)
        mailer = await _open_mailer(env, settings, stack)
        sender = Sender(ledger, mailer, settings.mail_doubtful)
        mails = Mails(ledger, settings.sender, sender.wake)
        yield Actor(
            routes=mailbox_routes(mailer) if isinstance(mailer, Mailbox) and not env.production else (),
            answers={
                ListMails: mails.list,
                ShowMail: mails.show,
                ResendMail: mails.resend,
                ResolveMail: mails.resolve,
            },
            subscriptions={OrderCreated: mails.order_created},
            background=[Background("sender", sender.run)],
            checks=[
                Check("mail ledger", "external" if settings.mongodb_uri else env.database_kind, ledger.check),
                Check(
                    "mail delivery", "external" if settings.has_smtp else "embedded", mailer.check, required=False
                ),
            ],
        )


async def _open_ledger(env: Env, settings: EmailSettings, stack: AsyncExitStack) -> Ledger:
    if settings.mongodb_uri:
        from purveyor.roles.email.ledger_mongo import open_ledger

        return await env.reach(lambda: stack.enter_async_context(open_ledger(settings.mongodb_uri)))
    from purveyor.roles.email.ledger_postgres import PostgresLedger

    return PostgresLedger(await stack.enter_async_context(env.database()))


async def _open_mailer(env: Env, settings: EmailSettings, stack: AsyncExitStack) -> Mailer:
    if settings.has_smtp:
        from purveyor.roles.email.mailer import SmtpMailer, smtp_target

        target = smtp_target(settings.smtp_url, settings.email_user, settings.email_pass.reveal())
        mailer = SmtpMailer(target, settings.sender, ca_file=settings.smtp_ca_file)
        stack.callback(mailer.close)
        return mailer
    from purveyor.roles.email.mailbox import Mailbox

    if env.production:
        log.warning("no SMTP server is set: mails are kept in DATA_DIR and reach nobody")
    return Mailbox(env.data_dir / "mailbox")


ROLE = Role(
    name="email",
    serves="confirmation mails, the mail ledger, the development mailbox",
    settings=EmailSettings,
    build=build,
    consumes={OrderCreated: OrderCreated.type},
    migrations=Path(__file__).with_name("migrations"),
)
