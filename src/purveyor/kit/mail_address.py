"""Validation of an email address with email-validator, which is slow to import."""

import email_validator
from email_validator import EmailNotValidError, ValidatedEmail

# Development and tests use domains such as .test, .local and .localhost. This is the library's documented way to
# allow them; its option for a single call covers only .test.
email_validator.SPECIAL_USE_DOMAIN_NAMES.clear()

__all__ = ["EmailNotValidError", "parse_mail_address"]


def parse_mail_address(text: str) -> ValidatedEmail:
    """Parse an address (RFC 5321, internationalized domains by RFC 5890) without DNS queries.

    Rejects quoted local parts, address literals and addresses that need SMTPUTF8 (RFC 6531). Raises
    ``EmailNotValidError``, which is a ``ValueError``.
    """
    return email_validator.validate_email(
        text, check_deliverability=False, globally_deliverable=False, allow_smtputf8=False, strict=True
    )
