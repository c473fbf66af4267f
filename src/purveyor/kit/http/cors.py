"""Cross-origin requests of front ends on other origins, which ``CORS_ORIGINS`` names (Fetch standard)."""

from collections.abc import Sequence
from typing import Any, Literal

from litestar.config.cors import CORSConfig
from litestar.types import Method

Fields = list[tuple[bytes, bytes]]
_EXPOSED = (
    "ETag",
    "Idempotent-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "X-Request-ID",
)
_ACCEPTED = ("Authorization", "Content-Type", "Idempotency-Key", "If-Match", "If-None-Match", "Last-Event-ID")
_TRACED = ("X-Request-ID", "traceparent")
_METHODS: list[Literal["*"] | Method] = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_NO_CONTENT = 204


class Cors:
    """CORS response headers. Credentials are bearer tokens, so cookies are not allowed."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._config = CORSConfig(
            allow_origins=list(origins),
            allow_methods=_METHODS,
            allow_headers=[*_ACCEPTED, *_TRACED],
            expose_headers=list(_EXPOSED),
        )
        self._simple = _fields(self._config.simple_headers)
        self._preflight = _fields(self._config.preflight_headers)

    def fields(self, headers: Sequence[tuple[bytes, bytes]]) -> Fields:
        """Header fields of an answer to a request with these headers."""
        origin = _find(headers, b"origin")
        vary = [] if self._config.is_allow_all_origins else [(b"vary", b"Origin")]
        if origin is None or not self._config.is_origin_allowed(origin.decode("latin-1")):
            return vary
        allowed = [] if self._config.is_allow_all_origins else [(b"access-control-allow-origin", origin)]
        return [*allowed, *self._simple, *vary]

    def preflight(self, scope: Any) -> tuple[int, Fields, bytes] | None:
        """The answer to a preflight request of an allowed origin; ``None`` for any other request."""
        headers = scope["headers"]
        if scope["method"] != "OPTIONS" or _find(headers, b"access-control-request-method") is None:
            return None
        origin = _find(headers, b"origin")
        if origin is None or not self._config.is_origin_allowed(origin.decode("latin-1")):
            return None
        return _NO_CONTENT, [field for field in self._preflight if field[0] not in _SIMPLE], b""


_SIMPLE = (b"vary", b"access-control-allow-origin")
"""Fields of a preflight answer that every answer gets."""


def _fields(headers: dict[str, str]) -> Fields:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]


def _find(headers: Sequence[tuple[bytes, bytes]], wanted: bytes) -> bytes | None:
    return next((value for name, value in headers if name == wanted), None)
