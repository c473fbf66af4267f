"""Refresh tokens: each is derived from the one before, so that a hash of the newest is all that is kept.

A token is the id of its session, how often the session's token was exchanged before it (its generation), and 256
bits: random in the first, and in the next one the HMAC of these under a key of the server. So the successor of a
token can be given twice without being stored, and an old token proves by itself that it was one of the session.
"""

import base64
import hashlib
import hmac
import secrets
from uuid import UUID

import msgspec

_SECRET_BYTES = 32
_LENGTH = 16 + 4 + _SECRET_BYTES
_MOST_GENERATIONS = 2**31 - 1
_FURTHEST = 10_000
"""Generations over which an old token is recognised: 20 ms of work. One that is older does not work either."""


class RefreshToken(msgspec.Struct, frozen=True):
    """One token of a session."""

    session_id: UUID
    generation: int
    secret: bytes

    @classmethod
    def first(cls, session_id: UUID) -> "RefreshToken":
        """The token of a new session."""
        return cls(session_id, 0, secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def parse(cls, text: str) -> "RefreshToken | None":
        """Read what ``str`` wrote; ``None`` for anything else."""
        try:
            raw = base64.b64decode(text + "==", altchars=b"-_", validate=True)
        except ValueError:
            return None
        generation = int.from_bytes(raw[16:20])
        if len(raw) != _LENGTH or generation >= _MOST_GENERATIONS:
            return None
        return cls(UUID(bytes=raw[:16]), generation, raw[20:])

    def __str__(self) -> str:
        raw = self.session_id.bytes + self.generation.to_bytes(4) + self.secret
        return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    def __repr__(self) -> str:
        return f"RefreshToken({self.session_id}, {self.generation}, ****)"

    @property
    def hash(self) -> bytes:
        """The SHA-256 of the secret: what is stored."""
        return hashlib.sha256(self.secret).digest()


class RefreshChain:
    """Derives tokens. ``secret`` is the server's, shared by all its processes."""

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), b"purveyor refresh tokens", "sha256")

    def successor(self, token: RefreshToken) -> RefreshToken:
        """The token that a token is exchanged for: always the same."""
        return RefreshToken(token.session_id, token.generation + 1, self._next(token.secret))

    def leads_to(self, token: RefreshToken, generation: int, token_hash: bytes) -> bool:
        """Whether the token was exchanged, maybe over several, for the one of this generation and hash."""
        steps = generation - token.generation
        if not 0 < steps <= _FURTHEST:
            return False
        secret = token.secret
        for _ in range(steps):
            secret = self._next(secret)
        return hmac.compare_digest(hashlib.sha256(secret).digest(), token_hash)

    def _next(self, secret: bytes) -> bytes:
        return hmac.digest(self._key, secret, "sha256")
