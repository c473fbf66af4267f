"""The page of the events beside the API documentation, and the document that it shows."""

from collections.abc import Mapping
from html import escape
from typing import Any

import msgspec
from litestar import Response, get

from purveyor.kit.pages import html_page, layout


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
<p>This page shows <a href="/asyncapi.json">/asyncapi.json</a> (AsyncAPI {escape(document["asyncapi"])});
<code>app asyncapi</code> prints it.</p>
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
    return (
        f"<table><thead><tr><th>Member</th><th>Type</th><th>About</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _members(
    schema: Mapping[str, Any], document: Mapping[str, Any], required: Any, prefix: str
) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for name, given in schema.get("properties", {}).items():
        member = _schema(given, document)
        about = member.get("description", "") if "$ref" not in given else ""
        always = "" if not required or name in required else "; may be missing"
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
