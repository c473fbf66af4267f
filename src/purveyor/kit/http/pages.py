"""The pages that a developer opens in a browser: the API documentation and the problem types."""

import gzip
import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from http import HTTPStatus
from importlib.resources import files
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from litestar.status_codes import HTTP_304_NOT_MODIFIED

from purveyor.kit.errors import NotFound, Problem, problem_for, problem_types
from purveyor.kit.http.openapi import example_problem

_STATIC = files("purveyor.kit.http") / "static"
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


def html_page(text: str) -> Response[str]:
    """An HTML response with the security headers that every page of ours has."""
    headers = {**SECURITY_HEADERS, "Cache-Control": REVALIDATE}
    return Response(text, media_type=MediaType.HTML, headers=headers)


def layout(*, title: str, body: str, here: str, development: bool, head: str = "") -> str:
    """A whole page: the bar on top with the page ``here`` marked, then ``body`` as the main part."""
    links = [("/docs", "API"), ("/docs/events", "Events"), ("/problems", "Problems")]
    links += [("/mailbox", "Mailbox")] if development else []
    links += [("/health/ready", "Health"), ("/openapi.json", "openapi.json")]
    current = ' aria-current="page"'
    nav = "\n    ".join(f'<a href="{path}"{current if path == here else ""}>{name}</a>' for path, name in links)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)} · Purveyor</title>
<link rel="icon" href="/static/icon.svg" type="image/svg+xml">
{head}<link rel="stylesheet" href="/static/purveyor.css">
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<header class="bar">
  <a class="brand" href="/docs"><img src="/static/icon.svg" alt="">Purveyor</a>
  <nav aria-label="Pages">
    {nav}
  </nav>
</header>
<main id="main" tabindex="-1">
{body}
</main>
</body>
</html>
"""


def _docs_page(*, development: bool) -> str:
    version = f"?v={SWAGGER_VERSION}"
    head = (
        f'<link rel="stylesheet" href="/static/swagger-ui.css{version}">\n'
        f'<script src="/static/swagger-ui-bundle.js{version}" defer></script>\n'
        '<script src="/static/docs.js" defer></script>\n'
    )
    body = (
        '<div id="swagger"><p class="loading">Loading the documentation…</p></div>\n'
        '<noscript><p class="loading">This page needs JavaScript. The document is also available at '
        '<a href="/openapi.json">/openapi.json</a>.</p></noscript>'
    )
    return layout(title="API", head=head, body=body, here="/docs", development=development)


def _facts(kind: type[Problem]) -> str:
    status = HTTPStatus(kind.status)
    return (
        f'<div class="facts"><span class="pill">{status.value} {escape(status.phrase)}</span> '
        f"<code>{escape(kind.code)}</code></div>"
    )


def _problem_list_page(*, development: bool) -> str:
    kinds = sorted(
        {kind.code: kind for kind in problem_types()}.values(), key=lambda kind: (kind.status, kind.code)
    )
    items = "\n".join(
        f'<li><h2><a href="/problems/{escape(kind.code)}">{escape(kind.title)}</a></h2>\n'
        f"{_facts(kind)}\n<p>{escape(kind.about())}</p></li>"
        for kind in kinds
    )
    body = f"""<div class="prose">
<h1>Problem types</h1>
<p class="lead">Every error response is an <code>application/problem+json</code> document (RFC 9457).
Its <code>type</code> is the path of one of these pages and never changes.
<code>detail</code> is a message for people.</p>
<ul class="problems">
{items}
</ul>
</div>"""
    return layout(title="Problem types", body=body, here="/problems", development=development)


def _example(kind: type[Problem]) -> str:
    return msgspec.json.format(msgspec.json.encode(example_problem(kind)), indent=2).decode()


def _problem_page(kind: type[Problem], *, development: bool) -> str:
    body = f"""<div class="prose">
<p class="up"><a href="/problems">All problem types</a></p>
<h1>{escape(kind.title)}</h1>
{_facts(kind)}
<p class="lead">{escape(kind.about())}</p>
<h2>Example response</h2>
<pre tabindex="0"><code>{escape(_example(kind), quote=False)}</code></pre>
</div>"""
    return layout(title=kind.title, body=body, here="/problems", development=development)


def page_routes(*, development: bool) -> Sequence[HTTPRouteHandler]:
    """The handlers of ``/docs``, ``/problems`` and ``/static``; ``development`` links the mailbox too."""
    assets = load_assets()

    @get("/docs", include_in_schema=False, sync_to_thread=False)
    def docs() -> Response[str]:
        return html_page(_docs_page(development=development))

    @get("/problems", include_in_schema=False, sync_to_thread=False)
    def problem_list() -> Response[str]:
        return html_page(_problem_list_page(development=development))

    @get("/problems/{slug:str}", include_in_schema=False, sync_to_thread=False)
    def problem(slug: FromPath[str]) -> Response[str]:
        kind = problem_for(slug)
        if kind is None:
            raise NotFound("There is no such problem type. See /problems for a list.")
        return html_page(_problem_page(kind, development=development))

    @get("/static/{name:str}", include_in_schema=False, sync_to_thread=False)
    def static(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        asset = assets.get(name)
        if asset is None:
            raise NotFound("There is no such file.")
        return asset.response(
            accept_encoding=request.headers.get("accept-encoding", ""),
            if_none_match=request.headers.get("if-none-match", ""),
        )

    return [docs, problem_list, problem, static]


def event_routes(document: Mapping[str, Any], *, development: bool) -> list[Any]:
    """``/docs/events`` and ``/asyncapi.json`` for an AsyncAPI 3.0 document."""
    page = _page(document, development=development)
    encoded = msgspec.json.encode(document)

    @get("/docs/events", include_in_schema=False)
    async def events() -> Response[str]:
        return html_page(page)

    @get("/asyncapi.json", include_in_schema=False)
    async def asyncapi_json() -> Response[bytes]:
        return Response(encoded, media_type="application/json")

    return [events, asyncapi_json]


def _page(document: Mapping[str, Any], *, development: bool) -> str:
    channels = "\n".join(_channel(name, document) for name in document["channels"])
    body = f"""<div class="prose">
<h1>Events</h1>
<p class="lead">{escape(document["info"]["description"])}</p>
<p>This page shows <a href="/asyncapi.json">/asyncapi.json</a> (AsyncAPI {escape(document["asyncapi"])}).
<code>app asyncapi</code> prints the same document.</p>
{channels}
</div>"""
    return layout(title="Events", body=body, here="/docs/events", development=development)


def _channel(name: str, document: Mapping[str, Any]) -> str:
    message = document["components"]["messages"][name]
    reference = f"#/channels/{name}"
    who = [
        operation["summary"]
        for operation in document["operations"].values()
        if operation["channel"]["$ref"] == reference
    ]
    schema = _schema(message["payload"], document)
    return f"""<h2 id="{escape(name)}"><code>{escape(name)}</code></h2>
<p>{escape(message["summary"])}</p>
<ul>{"".join(f"<li>{escape(line)}</li>" for line in who)}</ul>
<h3>Body</h3>
{_table(schema, document)}
<h3>Headers</h3>
{_table(message["headers"], document)}"""


def _table(schema: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = "\n".join(
        f"<tr><td><code>{escape(path)}</code></td><td>{escape(kind)}</td><td>{escape(about)}</td></tr>"
        for path, kind, about in _members(schema, document, required, "")
    )
    head = "<thead><tr><th>Member</th><th>Type</th><th>Description</th></tr></thead>"
    return f"<table>{head}<tbody>{rows}</tbody></table>"


def _members(
    schema: Mapping[str, Any], document: Mapping[str, Any], required: Any, prefix: str
) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for name, given in schema.get("properties", {}).items():
        member = _schema(given, document)
        about = member.get("description", "") if "$ref" not in given else ""
        always = "" if not required or name in required else "; optional"
        rows.append((f"{prefix}{name}", f"{member.get('type', 'any')}", f"{about}{always}".removeprefix("; ")))
        if member.get("type") == "array":
            item = _schema(member["items"], document)
            rows += _members(item, document, item.get("required", ()), f"{prefix}{name}[].")
    return rows


def _schema(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema itself, where this is a reference to it."""
    if "$ref" not in schema:
        return schema
    found: Mapping[str, Any] = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found
