"""The declaration of role email."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from msgspec import Meta

from purveyor.kit.errors import ConfigError, Unavailable
from purveyor.kit.events.message import Envelope
from purveyor.kit.limits.memory import Rate
from purveyor.kit.poll import regularly
from purveyor.kit.process.background import Background
from purveyor.kit.role import Actor, Check, Env, HoldsPersonalData, Role
from purveyor.roles.auth.contract import (
    EmailChanged,
    EmailConfirmationRequested,
    EmailConfirmed,
    PasswordChanged,
    PasswordResetRequested,
    UserErased,
    UserExportRequested,
    UserRegistered,
)
from purveyor.roles.email.contract import (
    Email,
    EmptyMailbox,
    FindMailbox,
    ListMails,
    MailDataErased,
    MailDataExported,
    MailSettled,
    ReadMailbox,
    RecoverClaims,
    ResendMail,
    ResolveMail,
    ShowMail,
    WhichUnrecorded,
)
from purveyor.roles.email.ports import DoubtPolicy, Emit, Ledger
from purveyor.roles.email.turns import FAREWELL, UNCONFIRMED
from purveyor.roles.orders.contract import (
    ORDER_LINK,
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderDataErased,
    OrderDelivered,
    OrderPaid,
    OrderRefunded,
    OrderShipped,
)
from purveyor.settings import Secret, Url
from purveyor.shop_details import ShopDetails, require_addresses

if TYPE_CHECKING:  # slow to import, so build() imports them
    from purveyor.kit.events.outbox import Outbox, Relay
    from purveyor.kit.events.outlet import OutletQueue
    from purveyor.roles.email.ledger.mongo import MongoRelay
    from purveyor.roles.email.mail_models import Shop
    from purveyor.roles.email.mailbox import Mailbox
    from purveyor.roles.email.mailer import SmtpMailer
    from purveyor.roles.email.privacy import PersonalData
    from purveyor.roles.email.service import Mails

log = logging.getLogger(__name__)

MAILED = (
    *(OrderCreated, OrderConfirmed, OrderShipped, OrderDelivered, OrderCancelled, OrderPaid, OrderRefunded),
    *(UserRegistered, EmailConfirmationRequested, EmailChanged, PasswordResetRequested, PasswordChanged),
)
"""The events that are only mailed."""
_NO_SMTP = (
    "no SMTP server is configured, emails are only stored in DATA_DIR. Set SMTP_URL or EMAIL_USER and EMAIL_PASS"
)
_PURGE_EVERY_S = 600.0


class EmailSettings(ShopDetails, frozen=True, kw_only=True):
    """The settings of role email."""

    mongodb_uri: Annotated[Url, Meta(description="MongoDB for the mail ledger; empty: PostgreSQL")] = Url()
    smtp_url: Annotated[
        Url, Meta(description="smtp://, smtps:// or smtp+starttls://user:pass@host:port; empty: see EMAIL_USER")
    ] = Url()
    email_user: Annotated[str, Meta(description="SMTP user; without SMTP_URL a Gmail account")] = ""
    email_pass: Annotated[Secret, Meta(description="SMTP password")] = Secret()
    email_from: Annotated[
        str, Meta(description="sender; empty: EMAIL_USER or Purveyor <orders@purveyor.local>")
    ] = ""
    mail_doubtful: Annotated[
        DoubtPolicy, Meta(description="emails that may or may not have been sent: resend once, or park as unknown")
    ] = "resend"
    rate_limit_unconfirmed_mail: Annotated[
        Rate, Meta(description="emails to a mailbox whose address is not confirmed; more wait in the ledger")
    ] = UNCONFIRMED
    mail_keep_days: Annotated[
        int, Meta(ge=0, le=36500, description="days after which the text of sent emails is deleted; 0: never")
    ] = 90
    smtp_ca_file: Annotated[
        Path | None, Meta(description="additional CA certificates (PEM) for a private SMTP server")
    ] = None
    mail_templates: Annotated[
        Path | None, Meta(description="folder with your own mail templates; empty: built-in templates")
    ] = None
    shop_language: Annotated[
        str, Meta(description="language of notices to SHOP_NOTIFY, and of emails about orders without a language")
    ] = "en"
    shop_notify: Annotated[
        str, Meta(description="email addresses, comma-separated, that get a notice of each new order")
    ] = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_addresses("SHOP_NOTIFY", self.shop_notify, most=20)

    @property
    def has_smtp(self) -> bool:
        return bool(self.smtp_url or self.email_user)

    @property
    def notified(self) -> tuple[str, ...]:
        """The addresses that get a notice of each new order."""
        return tuple(filter(None, (address.strip() for address in self.shop_notify.split(","))))

    @property
    def sender(self) -> str:
        """The sender, with the shop's name where the setting has none."""
        sender = self.email_from or self.email_user or "Purveyor <orders@purveyor.local>"
        if not self.shop_name:
            return sender
        from purveyor.roles.email.mime import sender_parts

        try:
            name, address = sender_parts(sender)
        except ValueError:  # reported by check()
            return sender
        if name and self.email_from:
            return sender
        name = self.name.replace('"', "'").replace("\\", "")
        return f'"{name}" <{address}>'


def check(settings: EmailSettings, production: bool) -> None:  # noqa: FBT001 - the signature of all checks
    """Check the sender, the SMTP server, an operator's templates and the shop's language."""
    if settings.email_from or settings.email_pass or settings.has_smtp:
        _check_delivery(settings)
    if settings.mail_templates:
        from purveyor.roles.email.template_check import check_templates

        check_templates(settings.mail_templates)
    from purveyor.roles.email.template_files import load_languages

    languages = load_languages(settings.mail_templates)
    if settings.shop_language not in languages:
        raise ConfigError(f"SHOP_LANGUAGE={settings.shop_language}: allowed: {', '.join(sorted(languages))}.")


@asynccontextmanager
async def build(env: Env, settings: EmailSettings) -> AsyncIterator[Actor]:
    """Start role email."""
    from purveyor.kit.link_tokens import LinkTokens
    from purveyor.kit.metrics import MAILS_WAITING
    from purveyor.roles.email.journal import Journals
    from purveyor.roles.email.letters import Letters
    from purveyor.roles.email.mailbox import Mailbox, MailboxPages
    from purveyor.roles.email.privacy import Farewells, PersonalData, Retention
    from purveyor.roles.email.rendering import Renderer
    from purveyor.roles.email.sender import Sender
    from purveyor.roles.email.service import Audit, Mails

    async with AsyncExitStack() as stack:
        ledger, emit, relay, outbox, outlet, purges = await _open_ledger(env, settings, stack)
        mailer, farewells = _open_mailer(env, settings, stack), Farewells(ledger)
        journals = Journals(env.data_dir / "sender-journals" / ("mongodb" if settings.mongodb_uri else "postgres"))

        def settled(kind: str) -> None:
            relay.wake()
            if kind in ("", FAREWELL):
                farewells.wake()

        sender = Sender(ledger, mailer, settings.mail_doubtful, journals=journals, settled=settled)
        shop = shop_of(settings, env.public_url)
        renderer = Renderer(shop, settings.mail_templates)
        letters = Letters(shop, LinkTokens(ORDER_LINK, *env.link_secrets()), settings.notified)
        mails = Mails(
            ledger, renderer, letters, settings.sender, sender.wake, reply_to=settings.shop_contact.strip()
        )
        personal_data, retention = PersonalData(ledger, emit), Retention(ledger, settings.mail_keep_days)
        audit = Audit(ledger, journals, settings.mail_doubtful)
        pages = MailboxPages(mailer if isinstance(mailer, Mailbox) and not env.production else None, renderer)
        yield Actor(
            routes=pages.routes(),
            answers={
                ListMails: mails.list,
                ShowMail: mails.show,
                ResendMail: mails.resend,
                ResolveMail: mails.resolve,
                WhichUnrecorded: audit.which_unrecorded,
                RecoverClaims: audit.recover,
                FindMailbox: pages.find,
                ReadMailbox: pages.read,
                EmptyMailbox: pages.empty,
            },
            subscriptions={
                **dict.fromkeys(MAILED, mails.write),
                EmailConfirmed: mails.release,
                UserErased: partial(_erase, personal_data, mails),
                OrderDataErased: personal_data.erase_later_mails,
                UserExportRequested: personal_data.export,
            },
            background=[
                Background("sender", sender.run),
                Background("relay", relay.run),
                Background("farewells", farewells.run),
                Background("purge", partial(regularly, _PURGE_EVERY_S, retention.sweep, *purges)),
            ],
            checks=[_ledger_check(env, settings, ledger), _delivery_check(env, settings, mailer)],
            outbox=outbox,
            outlet=outlet,
            measures={MAILS_WAITING: ledger.waiting},
        )


async def _erase(personal_data: "PersonalData", mails: "Mails", event: UserErased, envelope: Envelope) -> None:
    """Erase the user's mails, then record the last one. It is erased once it is sent."""
    await personal_data.erase(event, envelope)
    await mails.write(event, envelope)


def _ledger_check(env: Env, settings: EmailSettings, ledger: Ledger) -> Check:
    if not settings.mongodb_uri:
        return Check("mail ledger", env.database_kind, ledger.check)
    required = env.console  # a server still takes orders without it, and the events wait
    server = ledger.server
    return Check("mail ledger", "external", ledger.check, required=required, server=server, setting="MONGODB_URI")


def shop_of(settings: EmailSettings, public_url: str) -> "Shop":
    """Return the shop details that emails show."""
    from purveyor.roles.email.mail_models import Shop
    from purveyor.roles.email.mime import sender_parts

    return Shop(
        name=settings.shop_name or sender_parts(settings.sender)[0] or settings.name,
        url=public_url,
        contact=settings.shop_contact.strip(),
        legal_url=settings.shop_legal_url,
        logo_url=settings.shop_logo_url,
        bank_details=settings.bank_lines,
        zone=settings.zone,
        currency=settings.currency,
        language=settings.shop_language,
    )


class _Storage(NamedTuple):
    ledger: Ledger
    emit: Emit
    relay: "Relay | MongoRelay"
    outbox: "Outbox | None" = None
    outlet: "OutletQueue | None" = None
    purges: Sequence[Callable[[], Awaitable[object]]] = ()


async def _open_ledger(env: Env, settings: EmailSettings, stack: AsyncExitStack) -> _Storage:
    quota = settings.rate_limit_unconfirmed_mail
    if settings.mongodb_uri:
        from purveyor.roles.email.ledger.mongo import MongoLedger, MongoRelay, open_ledger
        from purveyor.roles.email.ledger.mongo_outlet import MongoOutletQueue

        mongo: MongoLedger = await env.connect(
            lambda: stack.enter_async_context(open_ledger(settings.mongodb_uri, quota=quota))
        )
        queue = MongoOutletQueue(mongo, env.events)
        own = MongoRelay(mongo, queue)
        return _Storage(mongo, own.emit, own, outlet=queue)
    from purveyor.kit.events.outbox import Outbox, Relay
    from purveyor.kit.events.outlet import PostgresOutletQueue
    from purveyor.roles.email.ledger.postgres import PostgresLedger

    database = await stack.enter_async_context(env.database())
    ledger = PostgresLedger(database, quota=quota)
    stack.push_async_callback(ledger.aclose)
    relay = Relay(database, "email", env.events, forget=True, order_by="occurred_at, id", outlet=True)

    async def emit(*events: Envelope) -> None:
        await ledger.emit(*events)
        relay.wake()

    outlet = PostgresOutletQueue(database, "email")
    return _Storage(ledger, emit, relay, Outbox(database, "email"), outlet, [ledger.emit_settled])


def _check_delivery(settings: EmailSettings) -> None:
    from purveyor.roles.email.mime import sender_parts

    try:
        sender_parts(settings.sender)
    except ValueError as error:
        whose = "" if settings.email_from else " (empty now: then it is EMAIL_USER)"
        raise ConfigError(
            f"EMAIL_FROM: expected an address or Name <address>, not {settings.sender!r}{whose}."
        ) from error
    if settings.has_smtp:
        _smtp_mailer(settings)
    elif settings.email_pass:
        raise ConfigError("EMAIL_PASS: a password is set without a user. Set EMAIL_USER or SMTP_URL.")


def _open_mailer(env: Env, settings: EmailSettings, stack: AsyncExitStack) -> "SmtpMailer | Mailbox":
    from purveyor.roles.email.mailbox import Mailbox

    if settings.has_smtp:
        mailer = _smtp_mailer(settings)
        stack.callback(mailer.close)
        return mailer
    if env.production:
        log.warning(_NO_SMTP)
    return Mailbox(env.data_dir / "mailbox")


def _delivery_check(env: Env, settings: EmailSettings, mailer: "SmtpMailer | Mailbox") -> Check:
    from purveyor.roles.email.mailbox import Mailbox

    if isinstance(mailer, Mailbox):
        probe = _fail_without_smtp if env.production else mailer.check
        return Check("mail delivery", "embedded", probe, required=False)
    setting = "SMTP_URL" if settings.smtp_url else "EMAIL_USER"
    return Check("mail delivery", "external", mailer.check, required=False, server=mailer.server, setting=setting)


async def _fail_without_smtp() -> str:
    raise Unavailable(_NO_SMTP)


def _smtp_mailer(settings: EmailSettings) -> "SmtpMailer":
    from purveyor.roles.email.mailer import SmtpMailer, smtp_target

    target = smtp_target(settings.smtp_url, settings.email_user, settings.email_pass.reveal())
    return SmtpMailer(target, settings.sender, ca_file=settings.smtp_ca_file)


ROLE = Role(
    name="email",
    serves="mails about orders and accounts, the mail ledger, the development mailbox",
    settings=EmailSettings,
    build=build,
    check=check,
    emits=(MailSettled, MailDataErased, MailDataExported),
    offers=(Email,),
    personal_data=HoldsPersonalData(erased=MailDataErased, exported=MailDataExported),
    tags={"development": "The development mailbox; not available in production."},
    pages={"Mailbox": "/mailbox"},
    consumes={
        **{event: event.type for event in (*MAILED, EmailConfirmed, UserErased, UserExportRequested)},
        OrderDataErased: "order_data.erased.email",
    },
    migrations=Path(__file__).with_name("migrations"),
    in_postgres=lambda settings: not settings.mongodb_uri,
)
