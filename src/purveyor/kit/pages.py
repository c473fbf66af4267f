"""The pages that a developer opens in a browser: the API documentation and the problem types."""

from collections.abc import Sequence
from html import escape
from http import HTTPStatus
from typing import Any

import msgspec
from litestar import MediaType, Request, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from purveyor.kit.api_problems import example
from purveyor.kit.assets import REVALIDATE, SECURITY_HEADERS, SWAGGER_VERSION, load_assets
from purveyor.kit.errors import NotFound, Problem, problem_for, problem_types


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
<a class="skip" href="#main">Skip to the content</a>
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
        '<div id="swagger"><p class="loading">Loading the documentation …</p></div>\n'
        '<noscript><p class="loading">This page needs JavaScript; the document that it shows is '
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
<p class="lead">Every error is answered as <code>application/problem+json</code> (RFC 9457).
Its <code>type</code> is the address of one of these pages and does not change;
<code>detail</code> is written for people.</p>
<ul class="problems">
{items}
</ul>
</div>"""
    return layout(title="Problem types", body=body, here="/problems", development=development)


def _example(kind: type[Problem]) -> str:
    return msgspec.json.format(msgspec.json.encode(example(kind)), indent=2).decode()


def _problem_page(kind: type[Problem], *, development: bool) -> str:
    body = f"""<div class="prose">
<p class="up"><a href="/problems">All problem types</a></p>
<h1>{escape(kind.title)}</h1>
{_facts(kind)}
<p class="lead">{escape(kind.about())}</p>
<h2>What the answer looks like</h2>
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
            raise NotFound("There is no such problem type; /problems lists them.")
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
