"""Conditional requests (RFC 9110 section 13). The ETag of an order is its version in quotes."""

import re

import msgspec

from purveyor.kit.errors import BadRequest
from purveyor.roles.orders.contract import PreconditionFailed

PRIVATE = "private, no-cache"
"""``Cache-Control`` of responses for one user, to be revalidated before reuse."""

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_TAGS = re.compile(rf"{_TAG}(?:[ \t]*,[ \t]*{_TAG})*")
_VERSION = re.compile(r"[0-9]+")
IF_MATCH = r'^(\*|[0-9]+|(W/)?"[\x21\x23-\x7e]*"([ \t]*,[ \t]*(W/)?"[\x21\x23-\x7e]*")*)$'
"""Pattern of ``If-Match`` for the API document, limited to ASCII."""


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def none_matches(condition: str, tag: str) -> bool:
    """Whether the client has this representation (``If-None-Match``, weak comparison)."""
    return any(part.strip().removeprefix("W/") in (tag, "*") for part in condition.split(","))


class IfMatch(msgspec.Struct, frozen=True):
    """The versions on which a client's change may be based; ``None`` allows any."""

    tags: frozenset[str] | None

    @classmethod
    def read(cls, header: str | None) -> "IfMatch | None":
        """Parse an ``If-Match`` header; ``None`` without one. Raises ``BadRequest``.

        Also accepts a version without quotes.
        """
        if header is None:
            return None
        text = header.strip()
        if text == "*":
            return cls(None)
        if _VERSION.fullmatch(text):
            return cls(frozenset([f'"{text}"']))
        if not _TAGS.fullmatch(text):
            raise BadRequest(
                'The If-Match header is malformed. Send the ETag of the order in quotes, such as "3".'
            )
        return cls(frozenset(re.findall(_TAG, text)))

    def require(self, version: int) -> None:
        """Raise ``PreconditionFailed`` unless the version matches. Weak tags never match (section 8.8.3.2)."""
        if self.tags is not None and etag(version) not in self.tags:
            raise PreconditionFailed(
                f"The order is now at version {version}. Reload it and try again.", headers={"ETag": etag(version)}
            )
