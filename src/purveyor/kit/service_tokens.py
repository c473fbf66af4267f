"""Service tokens: JWTs (RFC 7519) that identify the calling role over HTTP and expire after a minute."""

import re
import time

import jwt

from purveyor.kit.errors import ServiceTokenInvalid

LIFETIME_S = 60

_ISSUER = "purveyor"
_TYPE = "service+jwt"  # rejects tokens of other kinds, even when they share the secret
_ALGORITHM = "HS256"
_LEEWAY_S = 30
_FORM = re.compile(r"[\w-]{1,512}\.[\w-]{1,2048}\.[\w-]{43}", re.ASCII)


class ServiceTokens:
    """Signs and verifies service tokens."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()

    def sign(self, *, asking: str, asked: str) -> str:
        now = int(time.time())
        claims = {"iss": _ISSUER, "sub": asking, "aud": asked, "iat": now, "exp": now + LIFETIME_S}
        return jwt.encode(claims, self._secret, algorithm=_ALGORITHM, headers={"typ": _TYPE})

    def read(self, token: str, *, asked: str) -> str:
        """Verify a token and return the calling role. Raises ``ServiceTokenInvalid``."""
        if not _FORM.fullmatch(token):
            raise ServiceTokenInvalid
        try:
            if jwt.get_unverified_header(token).get("typ") != _TYPE:
                raise ServiceTokenInvalid
            claims = jwt.decode(
                token,
                self._secret,
                algorithms=[_ALGORITHM],
                audience=asked,
                issuer=_ISSUER,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iat", "sub", "aud", "iss"]},
            )
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise ServiceTokenInvalid from error
        if not 0 < claims["exp"] - claims["iat"] <= LIFETIME_S:
            raise ServiceTokenInvalid
        return str(claims["sub"])
