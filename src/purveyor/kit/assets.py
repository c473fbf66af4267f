"""The files behind the pages, served from memory: an explicit list, so that no path is ever put together.

Nothing in them comes from another host: the pages work offline and send no request elsewhere.
"""

import gzip
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files

from litestar import Response
from litestar.status_codes import HTTP_304_NOT_MODIFIED

_STATIC = files("purveyor.kit") / "static"
SWAGGER_VERSION = (_STATIC / "swagger-ui.VERSION").read_text().strip()

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
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Asset:
    """A packaged file as it is stored; a ``gzipped`` one goes out like that to clients that take gzip."""

    content: bytes
    media_type: str
    cache_control: str
    gzipped: bool

    @cached_property
    def etag(self) -> str:
        """A weak validator (RFC 9110 section 8.8.3), as it stands for the gzip and the plain form alike."""
        return f'W/"{hashlib.sha256(self.content).hexdigest()[:24]}"'

    @cached_property
    def plain(self) -> bytes:
        """The content without compression."""
        return gzip.decompress(self.content) if self.gzipped else self.content

    def response(self, *, accept_encoding: str, if_none_match: str) -> Response[bytes]:
        """The answer to a request with these header fields; 304 where the client has it already."""
        headers = {**SECURITY_HEADERS, "Cache-Control": self.cache_control, "ETag": self.etag}
        compress = self.gzipped and _accepts_gzip(accept_encoding)
        if self.gzipped:
            headers["Vary"] = "Accept-Encoding"
        if self.etag in (tag.strip() for tag in if_none_match.split(",")):
            return Response(b"", status_code=HTTP_304_NOT_MODIFIED, headers=headers)
        if compress:
            headers["Content-Encoding"] = "gzip"
        return Response(
            self.content if compress else self.plain,
            media_type=self.media_type,
            headers=headers,
        )


def _accepts_gzip(accept_encoding: str) -> bool:
    """Read ``Accept-Encoding`` (RFC 9110 section 12.5.3): gzip, or else ``*``, with a weight above 0."""
    weights = {}
    for item in accept_encoding.lower().split(","):
        coding, _, weight = item.partition(";")
        weights[coding.strip()] = weight.replace(" ", "")
    weight = weights.get("gzip", weights.get("*", "q=0"))
    return re.fullmatch(r"q=0(\.0*)?", weight) is None


def load_assets() -> dict[str, Asset]:
    """Every file under ``/static/``, by its name in the URL: what is not listed here is not served."""

    def asset(file: str, media_type: str, cache_control: str = REVALIDATE) -> Asset:
        return Asset((_STATIC / file).read_bytes(), media_type, cache_control, gzipped=file.endswith(".gz"))

    script, style, text = "text/javascript", "text/css", "text/plain"
    return {
        "docs.js": asset("docs.js", script),
        "icon.svg": asset("icon.svg", "image/svg+xml"),
        "mailbox.js": asset("mailbox.js", script),
        "purveyor.css": asset("purveyor.css", style),
        "swagger-ui.css": asset("swagger-ui.css.gz", style, _FOREVER),
        "swagger-ui-bundle.js": asset("swagger-ui-bundle.js.gz", script, _FOREVER),
        # The bundle points at this file for the licences of what it contains.
        "swagger-ui-bundle.js.LICENSE.txt": asset("swagger-ui-bundle.js.LICENSE.txt", text),
    }
