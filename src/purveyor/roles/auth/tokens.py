"""Access tokens (JWT, RFC 7519, signed with HS256) and refresh tokens."""

import base64
import hashlib
import hmac
import re
import secrets
import time
from functools import lru_cache
from pathlib import Path
from typing import Annotated
from uuid import UUID

import jwt
import msgspec
from msgspec import Meta

from purveyor.kit.errors import TokenInvalid
from purveyor.kit.secret_file import kept_secret
from purveyor.roles.auth.contract import VerifiedToken
from purveyor.roles.auth.model import User

_ISSUER = "purveyor"
_TYPE = "at+jwt"  # RFC 9068: distinguishes access tokens from other JWTs
_ALGORITHM = "HS256"
_LEEWAY_S = 30
_MAX_KNOWN = 10_000
"""Maximum number of good tokens that are remembered."""
_REQUIRED = ["exp", "iat", "sub", "iss", "aud", "jti", "sid"]
_FORM = re.compile(r"[\w-]{1,512}\.[\w-]{1,7600}\.[\w-]{42}[AEIMQUYcgkosw048]", re.ASCII)
"""Strict base64url (RFC 7515): PyJWT also accepts padding, foreign characters and set unused bits, so that one
signature would have many spellings."""


class _Claims(msgspec.Struct):
    """The claims that we read, with strict types. PyJWT checks the others."""

    sub: UUID
    sid: UUID
    exp: int
    ver: Annotated[int, Meta(ge=1)]
    email: str = ""
    name: str = ""
    role: str = "customer"
    language: str = ""


class AccessToken(msgspec.Struct, frozen=True):
    """The content of an access token: holder, session, and version of the account."""

    user_id: UUID
    session_id: UUID
    version: int
    expires_at: int
    """In seconds since 1970."""
    holder: VerifiedToken


class Tokens:
    """Signs and reads access tokens; ``lifetime_s`` is in seconds."""

    def __init__(self, secret: str, lifetime_s: int) -> None:
        self._secret = secret.encode()
        # The signature takes longer to check than all else in a request. A bad token is not remembered.
        self._checked = lru_cache(maxsize=_MAX_KNOWN)(self._check)
        self.lifetime_s = lifetime_s

    def sign(self, user: User, session_id: UUID, version: int) -> str:
        """An access token for this user in this session; ``version`` is the account's token version."""
        now = int(time.time())
        claims = {
            "iss": _ISSUER,
            "aud": _ISSUER,
            "sub": str(user.id),
            "sid": str(session_id),
            "ver": version,
            "email": user.email,
            "name": user.name,
            "role": user.access,
            "language": user.language,
            "email_verified": user.email_confirmed,
            "iat": now,
            "exp": now + self.lifetime_s,
            "jti": secrets.token_urlsafe(12),
        }
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM, headers={"typ": _TYPE})

    def read(self, token: str) -> AccessToken:
        """Read a token, without checking for revocation.

        Raises ``TokenInvalid`` for every kind of defect.
        """
        known = self._checked(token)
        if known.expires_at + _LEEWAY_S <= time.time():
            raise TokenInvalid
        return known

    def _check(self, token: str) -> AccessToken:
        if not _FORM.fullmatch(token):
            raise TokenInvalid
        try:
            if jwt.get_unverified_header(token).get("typ") != _TYPE:
                raise TokenInvalid
            decoded = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=_ISSUER,
                issuer=_ISSUER,
                leeway=_LEEWAY_S,
                options={"require": _REQUIRED},
            )
            claims = msgspec.convert(decoded, _Claims)
        except (jwt.PyJWTError, msgspec.ValidationError, ValueError, RecursionError) as error:
            raise TokenInvalid from error
        holder = VerifiedToken(
            sub=str(claims.sub),
            user_id=str(claims.sub),
            email=claims.email,
            name=claims.name,
            access=claims.role,
            exp=claims.exp,
        )
        return AccessToken(claims.sub, claims.sid, claims.ver, claims.exp, holder)


def development_secret(data_dir: Path) -> str:
    """The signing secret when none is set: created once and stored in ``data_dir`` (mode 0600)."""
    return kept_secret(data_dir / "jwt-secret")


_SECRET_BYTES = 32
_LENGTH = 16 + 4 + _SECRET_BYTES
_MOST_GENERATIONS = 2**31 - 1
_FURTHEST = 10_000
"""Number of generations for which an old token is recognized, 20 ms of work. Older ones are just invalid."""


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
        """Parse the output of ``str``; ``None`` for anything else."""
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
        """The SHA-256 of the secret, for storage."""
        return hashlib.sha256(self.secret).digest()


class RefreshChain:
    """Derives refresh tokens. ``secret`` is shared by all processes."""

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), b"purveyor refresh tokens", "sha256")

    def successor(self, token: RefreshToken) -> RefreshToken:
        """The token that replaces a token. Deterministic."""
        return RefreshToken(token.session_id, token.generation + 1, self._next(token.secret))

    def leads_to(self, token: RefreshToken, generation: int, token_hash: bytes) -> bool:
        """Return whether the token of this generation and hash descends from ``token``."""
        steps = generation - token.generation
        if not 0 < steps <= _FURTHEST:
            return False
        secret = token.secret
        for _ in range(steps):
            secret = self._next(secret)
        return hmac.compare_digest(hashlib.sha256(secret).digest(), token_hash)

    def _next(self, secret: bytes) -> bytes:
        return hmac.digest(self._key, secret, "sha256")
