"""Which text is one e-mail address, by the email-validator library; import it late where start time counts."""

import email_validator
from email_validator import EmailNotValidError, ValidatedEmail

# Names such as .test, .local and .localhost are what development set-ups and tests write to. The library's own way
# to take them; its option for one call knows only .test.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

__all__ = ["EmailNotValidError", "parse_mail_address"]


def parse_mail_address(text: str) -> ValidatedEmail:
    """Read an address (RFC 5321, internationalised domains by RFC 5890), without asking the DNS.

    No quoted local parts, no address literals, and none that would need SMTPUTF8 (RFC 6531). Raises
    ``EmailNotValidError``, which is a ``ValueError``.
    """
    return email_validator.validate_email(
        text, check_deliverability=False, globally_deliverable=False, allow_smtputf8=False, strict=True
    )
