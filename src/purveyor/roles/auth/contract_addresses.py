"""The part of the contract that is about postal addresses; other roles find it in ``contract.py``."""

from typing import Annotated, ClassVar

import msgspec
from msgspec import Meta

from purveyor.kit import text
from purveyor.kit.errors import NotFound, TokenInvalid
from purveyor.kit.message import Ask, Message


class Address(Message, frozen=True, omit_defaults=True):
    """A postal address; ``country`` is an ISO 3166-1 alpha-2 code."""

    recipient: str
    line1: str
    city: str
    postal_code: str
    country: str
    line2: str = ""
    region: str = ""
    phone: str = ""


class PostalAddress(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A postal address as a client sends it."""

    recipient: text.Line
    line1: text.Line
    city: text.Line
    postal_code: Annotated[str, Meta(min_length=1, max_length=20, extra_json_schema=text.LINE_SCHEMA)]
    country: text.Country
    line2: text.OptionalLine | None = None
    region: text.OptionalLine | None = None
    phone: text.Phone | None = None

    def checked(self, pointer: str = "") -> Address:
        """The address, cleaned. Raises ``InvalidInput``; ``pointer`` is where it stands in the request."""
        lines = {
            name: text.clean_line(getattr(self, name) or "", f"{pointer}/{name}")
            for name in ("recipient", "line1", "line2", "city", "region", "postal_code")
        }
        for name in ("recipient", "line1", "city", "postal_code"):
            if not lines[name]:
                raise text.invalid(f"{pointer}/{name}", "must not be empty")
        country = text.clean_country(self.country, f"{pointer}/country")
        return Address(**lines, country=country, phone=text.clean_phone(self.phone or "", f"{pointer}/phone"))


class GetAddress(Ask[Address], frozen=True):
    """One address of the token's holder. Raises ``NotFound``."""

    reply: ClassVar = Address
    route: ClassVar = "GET /user/{user_id}/addresses/{address_id}"
    bearer: ClassVar = "token"
    idempotent: ClassVar = True
    refusals: ClassVar = {401: TokenInvalid, 403: NotFound, 404: NotFound}

    user_id: str
    address_id: str
    token: str
