"""Packaged files for browsers, served from memory with validators and security headers."""

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.status_codes import HTTP_304_NOT_MODIFIED

from purveyor.kit.errors import NotFound
from purveyor.kit.http.web import find_list_header

# Swagger UI sets style attributes and has its icons in data: URLs; mails in the mailbox are styled inline.
_CONTENT_SECURITY_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
SECURITY_HEADERS = {
    "Content-Security-Policy": _CONTENT_SECURITY_POLICY,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
REVALIDATE = "no-cache"
_WORTH_COMPRESSING = 1000
"""Bytes below which gzip saves no packet."""
_FOREVER = "public, max-age=31536000, immutable"
_MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", ".txt": "text/plain"}


@dataclass(frozen=True)
class Asset:
    """A file as it is stored. A ``gzipped`` one is vendored: the URL that loads it contains its version."""

    content: bytes
    media_type: str
    gzipped: bool = False

    @cached_property
    def etag(self) -> str:
        """A weak validator (RFC 9110 section 8.8.3), the same for the gzip and the plain form."""
        return f'W/"{hashlib.sha256(self.content).hexdigest()[:24]}"'

    @cached_property
    def plain(self) -> bytes:
        """The content without compression."""
        return gzip.decompress(self.content) if self.gzipped else self.content

    @cached_property
    def compressed(self) -> bytes:
        """The content in gzip, always the same bytes."""
        return self.content if self.gzipped else gzip.compress(self.content, mtime=0)

    def response(self, request: Request[Any, Any, Any]) -> Response[bytes]:
        """The answer; 304 if the client already has this content."""
        cache_control = _FOREVER if self.gzipped else REVALIDATE
        headers = {
            **SECURITY_HEADERS,
            "Cache-Control": cache_control,
            "ETag": self.etag,
            "Vary": "Accept-Encoding",
        }
        if self._is_known_by(request):
            return Response(b"", status_code=HTTP_304_NOT_MODIFIED, headers=headers)
        is_small = len(self.content) < _WORTH_COMPRESSING
        if is_small or not _accepts_gzip(find_list_header(request, b"accept-encoding") or ""):
            return Response(self.plain, media_type=self.media_type, headers=headers)
        headers["Content-Encoding"] = "gzip"
        return Response(self.compressed, media_type=self.media_type, headers=headers)

    def _is_known_by(self, request: Request[Any, Any, Any]) -> bool:
        condition = find_list_header(request, b"if-none-match") or ""
        return condition.strip() == "*" or self.etag in (tag.strip() for tag in condition.split(","))


def _accepts_gzip(accept_encoding: str) -> bool:
    """Read ``Accept-Encoding`` (RFC 9110 section 12.5.3): gzip, or else ``*``, with a weight above 0."""
    weights = {}
    for item in accept_encoding.lower().split(","):
        coding, _, weight = item.partition(";")
        weights[coding.strip()] = weight.replace(" ", "")
    weight = weights.get("gzip", weights.get("*", "q=0"))
    return re.fullmatch(r"q=0(\.0*)?", weight) is None


def load_assets(folder: Path) -> dict[str, Asset]:
    """The style sheets, scripts, pictures and texts of a folder, by their name in the URL."""
    assets = {}
    for file in folder.iterdir():
        name = file.name.removesuffix(".gz")
        if media_type := _MEDIA_TYPES.get(Path(name).suffix):
            assets[name] = Asset(file.read_bytes(), media_type, gzipped=name != file.name)
    return assets


def static_files(path: str, assets: Mapping[str, Asset]) -> HTTPRouteHandler:
    """The route of these files below ``path``."""

    @get(f"{path}/{{name:str}}", include_in_schema=False, sync_to_thread=False)
    def file(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        asset = assets.get(name)
        if asset is None:
            raise NotFound("There is no such file.")
        return asset.response(request)

    return file
