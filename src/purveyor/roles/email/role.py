"""The declaration of role email."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from purveyor.kit.role import Actor, Background, Check, Env, Role
from purveyor.roles.email.contract import ListMails, ResendMail, ResolveMail, ShowMail
from purveyor.roles.email.ports import DoubtPolicy
from purveyor.roles.orders.contract import OrderCreated
from purveyor.settings import Secret, Url


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

    @property
    def sender(self) -> str:
        """Who mails come from."""
        return self.email_from or self.email_user or "Purveyor <orders@purveyor.local>"


@asynccontextmanager
async def build(env: Env, settings: EmailSettings) -> AsyncIterator[Actor]:
    """Start role email."""
    from purveyor.roles.email.ledger_postgres import PostgresLedger
    from purveyor.roles.email.mailbox import Mailbox, mailbox_routes
    from purveyor.roles.email.sender import Sender
    from purveyor.roles.email.service import Mails

    async with env.database() as database:
        ledger = PostgresLedger(database)
        mailer = Mailbox(env.data_dir / "mailbox")
        sender = Sender(ledger, mailer, settings.mail_doubtful)
        mails = Mails(ledger, settings.sender, sender.wake)
        yield Actor(
            routes=() if env.production else mailbox_routes(mailer),
            answers={
                ListMails: mails.list,
                ShowMail: mails.show,
                ResendMail: mails.resend,
                ResolveMail: mails.resolve,
            },
            subscriptions={OrderCreated: mails.order_created},
            background=[Background("sender", sender.run)],
            checks=[
                Check("mail ledger", env.database_kind, ledger.check),
                Check("mail delivery", "embedded", mailer.check, required=False),
            ],
        )


ROLE = Role(
    name="email",
    serves="confirmation mails, the mail ledger, the development mailbox",
    settings=EmailSettings,
    build=build,
    consumes={OrderCreated: OrderCreated.type},
    migrations=Path(__file__).with_name("migrations"),
)
