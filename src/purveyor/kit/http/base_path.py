"""The path of ``PUBLIC_URL``, below which the application works whether a proxy strips the path or keeps it."""

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

base_path: ContextVar[str] = ContextVar("base_path", default="")
"""Path of ``PUBLIC_URL`` without a slash at its end, for the request in hand. Links to paths begin with it."""

Fields = list[tuple[bytes, bytes]]


def strip_base_path(scope: Any, base: str) -> None:
    """Route a request by the path below ``base``. ``raw_path`` becomes the public path."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    if scope["path"] == base or scope["path"].startswith(f"{base}/"):
        scope["path"] = scope["path"].removeprefix(base) or "/"
        raw = raw.removeprefix(base.encode())
    scope["raw_path"] = base.encode() + raw


def with_base_path(headers: Sequence[tuple[bytes, bytes]], base: str) -> Fields:
    """Header fields whose links to paths of this application begin with ``base``."""
    return [(name, _linked(name, value, base.encode())) for name, value in headers]


def _linked(name: bytes, value: bytes, base: bytes) -> bytes:
    if name.lower() == b"location" and value.startswith(b"/") and not value.startswith(b"//"):
        return base + value
    return value.replace(b"</", b"<" + base + b"/") if name.lower() == b"link" else value
