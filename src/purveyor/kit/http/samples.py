"""Code samples, a collection of requests and llms.txt, made from the OpenAPI document."""

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

Json = Mapping[str, Any]
_BODY_EXPRESSION = re.compile(r"\$response\.body#((?:/\w+)+)")
_HEADERS = {"If-Match": '"1"', "Idempotency-Key": "order-2024-0001"}
"""Sample values of the headers that are shown. Others are rarely set by hand."""


class Operation(msgspec.Struct, frozen=True, kw_only=True):
    """An operation with sample values. Path parameters stand in braces."""

    id: str
    tag: str
    method: str
    path: str
    summary: str
    description: str
    secured: bool
    headers: dict[str, str]
    body: Any = None

    @property
    def parameters(self) -> list[str]:
        """The names of the path parameters."""
        return re.findall(r"\{(\w+)\}", self.path)


def operations(document: Json) -> Iterator[Operation]:
    """The operations in the order of their tags."""
    tags = [tag["name"] for tag in document["tags"]]
    every = [
        _operation(method, path, operation)
        for path, item in document["paths"].items()
        for method, operation in item.items()
    ]
    yield from sorted(every, key=lambda operation: tags.index(operation.tag))


def _operation(method: str, path: str, operation: Json) -> Operation:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    example: Json = next(iter(content.get("examples", {}).values()), {})
    given = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "header"}
    return Operation(
        id=operation["operationId"],
        tag=operation["tags"][0],
        method=method.upper(),
        path=path,
        summary=operation["summary"],
        description=operation["description"],
        secured=bool(operation["security"]),
        headers={name: value for name, value in _HEADERS.items() if name in given},
        body=example.get("value"),
    )


# One language each


def curl(operation: Operation) -> str:
    """A command for a POSIX shell with the variables ``HOST``, ``TOKEN`` and those of the path."""
    path = re.sub(r"\{(\w+)\}", lambda found: f"${found[1].upper()}", operation.path)
    lines = [f'curl "$HOST{path}"' if operation.method == "GET" else f'curl -X {operation.method} "$HOST{path}"']
    if operation.secured:
        lines.append('-H "Authorization: Bearer $TOKEN"')
    lines += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in operation.headers.items()]
    if operation.body is not None:
        lines += [
            "-H 'Content-Type: application/json'",
            f"-d {shlex.quote(json.dumps(operation.body, ensure_ascii=False))}",
        ]
    return " \\\n  ".join(lines)


def python(operation: Operation) -> str:
    """A call with httpx; ``host``, ``token`` and the path's variables are set before."""
    prefix = "f" if operation.parameters else ""
    arguments = [f'{prefix}"{operation.path}"']
    headers = ['"Authorization": f"Bearer {token}"'] if operation.secured else []
    headers += [f"{name!r}: {value!r}" for name, value in operation.headers.items()]
    if headers:
        arguments.append(f"headers={{{', '.join(headers)}}}")
    if operation.body is not None:
        arguments.append(f"json={operation.body!r}")
    call = f"client.{operation.method.lower()}({', '.join(arguments)})"
    return (
        f"import httpx\n\nwith httpx.Client(base_url=host) as client:\n    response = {call}\nprint(response.text)"
    )


def javascript(operation: Operation) -> str:
    """A call with fetch; ``host``, ``token`` and the path's variables are set before."""
    path = re.sub(r"\{(\w+)\}", r"${\1}", operation.path)
    headers = ["Authorization: `Bearer ${token}`"] if operation.secured else []
    headers += [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in operation.headers.items()]
    if operation.body is not None:
        headers.append('"Content-Type": "application/json"')
    options = [] if operation.method == "GET" else [f'method: "{operation.method}"']
    options += [f"headers: {{ {', '.join(headers)} }}"] if headers else []
    if operation.body is not None:
        options.append(f"body: JSON.stringify({json.dumps(operation.body, ensure_ascii=False)})")
    lines = "".join(f"  {option},\n" for option in options)
    inner = f", {{\n{lines}}}" if options else ""
    return f"const response = await fetch(`${{host}}{path}`{inner})\nconsole.log(await response.text())"


# Whole documents


def http_collection(document: Json, host: str) -> str:
    """Requests for the editors that run ``.http`` files (VS Code's REST Client and others).

    Variables of paths come from the answers that the document's links name, such as the id of the placed order.
    """
    every = list(operations(document))
    sources = _sources(document)
    wanted = sorted({name for operation in every for name in operation.parameters})
    lines = [f"@host = {host}", "@token = {{log_in.response.body.$.access_token}}"]
    lines += [f"@{name} = {sources.get(name, '')}".rstrip() for name in wanted]
    for operation in every:
        path = re.sub(r"\{(\w+)\}", r"{{\1}}", operation.path)
        lines += ["", f"### {operation.summary}", f"# @name {operation.id}"]
        lines.append(f"{operation.method} {{{{host}}}}{path}")
        lines += ["Authorization: Bearer {{token}}"] if operation.secured else []
        lines += [f"{name}: {value}" for name, value in operation.headers.items()]
        if operation.body is not None:
            body = json.dumps(operation.body, indent=2, ensure_ascii=False)
            lines += ["Content-Type: application/json", "", body]
    return "\n".join(lines) + "\n"


def _sources(document: Json) -> dict[str, str]:
    """Map each parameter to the first response member that provides it, as an ``.http`` variable."""
    found: dict[str, str] = {}
    for item in document["paths"].values():
        for operation in item.values():
            for answer in operation["responses"].values():
                for link in answer.get("links", {}).values():
                    for name, expression in link.get("parameters", {}).items():
                        if member := _BODY_EXPRESSION.fullmatch(expression):
                            path = re.sub(r"/(\d+)", r"[\1]", member[1]).replace("/", ".")
                            source = f"{{{{{operation['operationId']}.response.body.${path}}}}}"
                            found.setdefault(name, source)
    return found


def llms_txt(document: Json, host: str) -> str:
    """The API in Markdown for language models (llmstxt.org)."""
    info = document["info"]
    summary, _, rest = info["description"].partition("\n")
    lines = [f"# {info['title']}", "", f"> {summary}", "", rest.strip(), "", "## Documents", ""]
    lines += [
        f"- [OpenAPI 3.1]({host}/openapi.json): every route with schemas, examples and errors",
        f"- [AsyncAPI 3.1]({host}/asyncapi.json): every event",
        f"- [Code samples]({host}/docs/samples): curl, Python and JavaScript",
        f"- [Collection of requests]({host}/docs/purveyor.http): for editors that run .http files",
        f"- [Problem types]({host}/problems): what each error means",
    ]
    every = list(operations(document))
    for tag in document["tags"]:
        lines += ["", f"## {tag['name'].capitalize()}", "", tag["description"], ""]
        lines += [
            f"- `{operation.method} {operation.path}`{' (access token)' if operation.secured else ''}: "
            f"{operation.summary}. {operation.description}"
            for operation in every
            if operation.tag == tag["name"]
        ]
    return "\n".join(lines) + "\n"
