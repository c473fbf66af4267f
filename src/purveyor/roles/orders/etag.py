"""Conditional requests (RFC 9110 section 13). The ETag of an order is its version in quotes."""

import re

import msgspec

from purveyor.kit.errors import BadRequest
from purveyor.roles.orders.contract import PreconditionFailed

PRIVATE = "private, no-cache"
"""``Cache-Control`` of responses for one user, to be revalidated before reuse."""

_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
_LIST = re.compile(rf"[ \t,]*(?:{_TAG}|[0-9]+)(?:[ \t]*,[ \t,]*(?:{_TAG}|[0-9]+))*[ \t,]*")
_OPAQUE = re.compile(r'"([^"]*)"|([0-9]+)')
_COMPRESSED = re.compile(r"--?(gzip|br|zstd|deflate)\Z")
"""Suffixes that Apache, Jetty and others append to the tag of a compressed response."""
IF_MATCH = (
    r'^[ \t,]*(\*|([0-9]+|(W/)?"[\x21\x23-\x7e]*")([ \t]*,[ \t,]*([0-9]+|(W/)?"[\x21\x23-\x7e]*"))*)[ \t,]*$'
)
"""Pattern of ``If-Match`` for the API document, limited to ASCII."""


def etag(version: int) -> str:
    """The entity tag of a version."""
    return f'"{version}"'


def none_matches(condition: str | None, version: int) -> bool:
    """Return whether the client has this version (``If-None-Match``). A malformed condition is ignored."""
    if condition is None:
        return False
    return condition.strip() == "*" or str(version) in (_versions(condition) or ())


def _versions(condition: str) -> frozenset[str] | None:
    """The versions that a list of entity tags names; ``None`` if it is malformed."""
    if not _LIST.fullmatch(condition):
        return None
    return frozenset(_COMPRESSED.sub("", quoted or bare) for quoted, bare in _OPAQUE.findall(condition))


class IfMatch(msgspec.Struct, frozen=True):
    """The versions on which a client's change may be based; ``None`` allows any.

    A weak tag names the same version: proxies that compress weaken ours, and a version does not depend on the
    coding. RFC 9110 would compare strongly.
    """

    versions: frozenset[str] | None

    @classmethod
    def read(cls, header: str | None) -> "IfMatch | None":
        """Parse an ``If-Match`` header; ``None`` without one. Raises ``BadRequest``.

        Also accepts versions without quotes.
        """
        if header is None:
            return None
        if header.strip(" \t,") == "*":
            return cls(None)
        versions = _versions(header)
        if versions is None:
            raise BadRequest(
                'The If-Match header is malformed. Send the ETag of the order in quotes, such as "3".'
            )
        return cls(versions)

    def require(self, version: int) -> None:
        """Raise ``PreconditionFailed`` unless the version matches."""
        if self.versions is not None and str(version) not in self.versions:
            raise PreconditionFailed(
                f"The order is now at version {version}. Reload it and try again.", headers={"ETag": etag(version)}
            )
