"""Settings of what customers are told about the shop, shared by the roles that tell it."""

import re
from difflib import get_close_matches
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, available_timezones

import msgspec

from purveyor.kit.errors import ConfigError
from purveyor.kit.money import is_currency
from purveyor.settings import Help, Url, require_scheme

_MAX_LINE = 100
_NO_LINE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]|=[?]")
"""Forbidden in email headers: controls, line and direction marks, and the start of an encoded word."""


class ShopDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Shop details shown to customers; base of the settings of each role that shows them."""

    shop_name: Annotated[
        str, Help(description="name of the shop; empty: the name in EMAIL_FROM, otherwise Purveyor")
    ] = ""
    shop_contact: Annotated[
        str, Help(description="email address for questions of customers, also Reply-To of all emails")
    ] = ""
    shop_time_zone: Annotated[
        str, Help(description="IANA time zone for times in emails, figures and Excel files, such as Europe/Berlin")
    ] = "UTC"
    shop_legal_url: Annotated[Url, Help(description="URL of the legal notice, linked in pages and emails")] = Url()
    shop_logo_url: Annotated[Url, Help(description="URL of the logo in emails; empty: the name as text")] = Url()
    bank_details: Annotated[
        str, Help(description="account for bank transfers, shown in emails and pages; \\n starts a new line")
    ] = ""
    currency: Annotated[str, Help(description="ISO 4217 code of all prices")] = "EUR"

    def __post_init__(self) -> None:
        if not is_currency(self.currency):
            raise ConfigError(
                f"CURRENCY={self.currency!a}: expected the code of a currency in ISO 4217, such as EUR."
            )
        if len(self.shop_name) > _MAX_LINE or _NO_LINE.search(self.shop_name):
            raise ConfigError(f"SHOP_NAME: expected one line of at most {_MAX_LINE} characters.")
        require_addresses("SHOP_CONTACT", self.shop_contact, most=1)
        for name in ("shop_legal_url", "shop_logo_url"):
            _require_page(name.upper(), getattr(self, name))
        _ = self.zone

    @property
    def name(self) -> str:
        """The shop's name."""
        return self.shop_name.strip() or "Purveyor"

    @property
    def bank_lines(self) -> tuple[str, ...]:
        """The lines of the bank details."""
        lines = re.split(r"\r?\n|\\n", self.bank_details)
        return tuple(line.strip() for line in lines if line.strip())

    @property
    def zone(self) -> ZoneInfo:
        """The shop's time zone. Raises ``ConfigError``."""
        wanted = self.shop_time_zone
        known = {wanted} if wanted == "UTC" else available_timezones()
        if wanted in known:
            return ZoneInfo(wanted)
        near = get_close_matches(wanted, known, n=1)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ConfigError(f"SHOP_TIME_ZONE={wanted!r}: expected an IANA time zone, such as Europe/Berlin.{hint}")


def require_addresses(name: str, text: str, *, most: int) -> None:
    """Raise ``ConfigError`` for a list of mail addresses that has an invalid one or too many."""
    addresses = text.split(",") if text.strip() else []
    if len(addresses) > most:
        raise ConfigError(f"{name}: expected {'one email address' if most == 1 else f'at most {most} addresses'}.")
    for address in addresses:
        from purveyor.kit.mail_address import EmailNotValidError, parse_mail_address  # slow to import

        try:
            parse_mail_address(address.strip())
        except EmailNotValidError as error:
            raise ConfigError(f"{name}: {address.strip()!r} is not an email address. {error}") from error


def _require_page(name: str, url: str) -> None:
    """Raise ``ConfigError`` for a URL that a customer's browser could not open."""
    require_scheme(name, url, "http", "https")
    if url and (not urlsplit(url).hostname or re.search(r"[\s<>\"]", url)):
        raise ConfigError(f"{name}: expected a URL such as https://shop.example.")
