"""Who delivers the mails, as the settings say: an SMTP server, or in development a mailbox of our own."""

import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from purveyor.kit.errors import ConfigError, Unavailable
from purveyor.kit.role import Check, Env
from purveyor.roles.email.mailbox import Mailbox, mailbox_routes
from purveyor.roles.email.mailer import SmtpMailer, smtp_target
from purveyor.roles.email.mime import sender_parts
from purveyor.roles.email.rendering import Renderer

if TYPE_CHECKING:
    from purveyor.roles.email.role import EmailSettings

log = logging.getLogger(__name__)

_NOBODY = "no SMTP server is set (SMTP_URL, or EMAIL_USER and EMAIL_PASS): mails reach nobody but DATA_DIR"


def check_delivery(settings: "EmailSettings") -> None:
    """Raise ``ConfigError`` for settings that no mail could be made or sent with."""
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
        raise ConfigError("EMAIL_PASS: it is set, but neither EMAIL_USER nor SMTP_URL is.")


def open_mailer(env: Env, settings: "EmailSettings", stack: AsyncExitStack) -> SmtpMailer | Mailbox:
    """The mailer that is set; closed with the stack."""
    if settings.has_smtp:
        mailer = _smtp_mailer(settings)
        stack.callback(mailer.close)
        return mailer
    if env.production:
        log.warning(_NOBODY)
    return Mailbox(env.data_dir / "mailbox")


def delivery_check(env: Env, settings: "EmailSettings", mailer: SmtpMailer | Mailbox) -> Check:
    """The sign of life of who delivers; in production, a mailbox that nobody reads is none."""
    if isinstance(mailer, Mailbox):
        return Check("mail delivery", "embedded", _nobody if env.production else mailer.check, required=False)
    setting = "SMTP_URL" if settings.smtp_url else "EMAIL_USER"
    return Check("mail delivery", "external", mailer.check, required=False, server=mailer.server, setting=setting)


def mailbox_pages(env: Env, mailer: SmtpMailer | Mailbox, renderer: Renderer) -> Sequence[Any]:
    """The routes of the development mailbox, where there is one."""
    return mailbox_routes(mailer, renderer) if isinstance(mailer, Mailbox) and not env.production else ()


async def _nobody() -> str:
    raise Unavailable(_NOBODY)


def _smtp_mailer(settings: "EmailSettings") -> SmtpMailer:
    target = smtp_target(settings.smtp_url, settings.email_user, settings.email_pass.reveal())
    return SmtpMailer(target, settings.sender, ca_file=settings.smtp_ca_file)
