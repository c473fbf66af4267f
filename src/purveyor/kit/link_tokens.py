"""Tokens in links that show one thing to whoever has the link. They never expire, and nothing is stored."""

import base64
import hmac
from uuid import UUID

_ID_BYTES = 16
_MAC_BYTES = 16


class LinkTokens:
    """Signs and verifies tokens for one purpose. The first secret signs; every secret verifies.

    Each purpose has a key of its own, so that a token of another purpose is invalid.
    """

    def __init__(self, purpose: str, *secrets: str) -> None:
        self._keys = [
            hmac.digest(secret.encode(), f"purveyor {purpose}".encode(), "sha256") for secret in secrets if secret
        ]

    def sign(self, about: UUID, bound_to: str) -> str:
        """A token about this id, or an empty text without a secret. Deterministic.

        The verifier must know ``bound_to``, which the token does not contain.
        """
        return _token(self._keys[0], about, bound_to) if self._keys else ""

    def verify(self, token: str, about: UUID, bound_to: str) -> bool:
        """Return whether the token was signed for this id and value. Takes the same time for every wrong token."""
        given = token.encode("utf-8", "surrogatepass")
        matches = [hmac.compare_digest(_token(key, about, bound_to).encode(), given) for key in self._keys]
        return any(matches)


def id_in(token: str) -> UUID | None:
    """The id that a token is about, unverified; ``None`` if it is no token."""
    try:
        raw = base64.b64decode(token + "=", altchars=b"-_", validate=True)
    except ValueError:
        return None
    return UUID(bytes=raw[:_ID_BYTES]) if len(raw) == _ID_BYTES + _MAC_BYTES else None


def _token(key: bytes, about: UUID, bound_to: str) -> str:
    mac = hmac.digest(key, about.bytes + bound_to.encode("utf-8", "surrogatepass"), "sha256")
    return base64.urlsafe_b64encode(about.bytes + mac[:_MAC_BYTES]).rstrip(b"=").decode()
