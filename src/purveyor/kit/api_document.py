"""What the OpenAPI document says beyond what Litestar makes of the routes; no word of any one route is here."""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from litestar import Litestar
from litestar.routes import HTTPRoute

from purveyor.kit.api_problems import MEDIA_TYPE as PROBLEM
from purveyor.kit.api_problems import add_problems, problem_components
from purveyor.kit.examples import NEVER_SHED, Notes, RequestHeader, notes_of

_SCHEMA = "#/components/schemas/{name}"
_NO_NUL, _SAID = r"^[^\u0000]*$", {"pattern", "enum", "format"}
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"

Json = dict[str, Any]


def complete(document: Json, application: Litestar, tags: Mapping[str, str]) -> None:
    """Make Litestar's document of these routes ours: strict bodies, problems, headers, links, ordered tags."""
    operations = list(_operations(document, application))
    components = document["components"]
    components["schemas"] |= _body_schemas([handler for _, handler in operations])
    components |= problem_components()
    summaries = {operation["operationId"]: operation["summary"] for operation, _ in operations}
    for operation, handler in operations:
        notes = notes_of(handler)
        for parameter in operation.get("parameters", ()):
            _tidy_parameter(parameter)
        if notes.reads:
            operation.setdefault("parameters", []).extend(map(_header_parameter, notes.reads))
        if "requestBody" in operation:
            _tell_body(operation, handler)
        add_problems(operation, sheds=not NEVER_SHED.items() <= handler.opt.items())
        _tell_answers(operation, handler)
        _tell_good_answer(operation, notes, summaries)
    used = {tag for operation, _ in operations for tag in operation.get("tags", ())}
    document["tags"] = [{"name": name, "description": text} for name, text in tags.items() if name in used]


def _operations(document: Json, application: Litestar) -> Iterator[tuple[Json, Any]]:
    for served in application.routes:
        for handler in served.route_handlers if isinstance(served, HTTPRoute) else ():
            for method in handler.http_methods if handler.resolve_include_in_schema() else ():
                yield document["paths"][served.path_format][method.lower()], handler


def _body_schemas(handlers: list[Any]) -> Json:
    """The schemas of what the routes read, by the library that reads it.

    Litestar's own leave out that unknown members are refused, and take a tuple's ``...`` for a type. A struct's
    ``rules`` are what its members cannot say of each other.
    """
    kinds = {handler.parsed_data_field.annotation for handler in handlers if handler.parsed_data_field}
    _, schemas = msgspec.json.schema_components(
        sorted(kinds, key=lambda kind: kind.__name__), ref_template=_SCHEMA
    )
    for kind in kinds:
        schemas[kind.__name__] |= getattr(kind, "rules", {})
    _refuse_nul(schemas)
    return schemas


def _refuse_nul(schema: Any) -> None:
    """Text may hold every character but U+0000."""
    for inner in schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ():
        _refuse_nul(inner)
    if isinstance(schema, dict) and schema.get("type") == "string" and not _SAID & schema.keys():
        schema["pattern"] = _NO_NUL


def _tidy_parameter(parameter: Json) -> None:
    """A parameter that may be left out is not ``null`` when it is: text in a URL or a header cannot be."""
    schema = parameter["schema"]
    if "oneOf" in schema:
        kind = next(kind for kind in schema.pop("oneOf") if kind != {"type": "null"})
        schema |= kind | schema  # what a route says itself counts
    if isinstance(schema.get("type"), list):
        schema["type"] = next(kind for kind in schema["type"] if kind != "null")
    if "enum" in schema:
        schema["enum"] = [value for value in schema["enum"] if value is not None]
    for bound in ("minimum", "maximum"):
        if bound in schema:
            schema[bound] = int(schema[bound])
    schema.pop("description", None)  # it is the parameter's
    for flag in ("deprecated", "allowEmptyValue", "allowReserved"):
        parameter.pop(flag, None)


def _header_parameter(read: RequestHeader) -> Json:
    schema = {"type": "string", **read.schema}
    return {
        "name": read.name,
        "in": "header",
        "required": False,
        "description": read.description,
        "schema": schema,
    }


def _tell_body(operation: Json, handler: Any) -> None:
    content = operation["requestBody"]["content"]
    operation["requestBody"]["required"] = handler.parsed_data_field.is_required
    kind, told = handler.parsed_data_field.annotation, handler.parsed_data_field.kwarg_definition
    examples = [example.value for example in told.examples or ()] if told else []
    content[_JSON] = _media(kind.__name__, examples)
    if "form" in handler.opt:
        content[_FORM] = _form(kind, handler.opt["form"], examples)


def _media(name: str, examples: list[Any]) -> Json:
    schema = {"$ref": _SCHEMA.format(name=name)}
    return {"schema": schema, "examples": _examples(examples)}


def _examples(values: list[Any]) -> Json:
    return {f"example {number}": {"value": value} for number, value in enumerate(values, 1)}


def _form(kind: Any, names: Mapping[str, str], examples: list[Any]) -> Json:
    """The form that is read as the struct ``kind``; members that it does not know are left out."""
    whole = msgspec.json.schema_components([kind], ref_template=_SCHEMA)[1][kind.__name__]
    _refuse_nul(whole)
    properties = {form: whole["properties"][member] for form, member in names.items()}
    required = [form for form, member in names.items() if member in whole["required"]]
    values = [{form: example[member] for form, member in names.items()} for example in examples]
    schema = {"type": "object", "properties": properties, "required": required}
    return {"schema": schema, "examples": _examples(values)}


def _tell_answers(operation: Json, handler: Any) -> None:
    """The examples as they were given: Litestar leaves out what is ``None`` in them."""
    for status, spec in (handler.responses or {}).items():
        content = operation["responses"][str(status)].get("content", {})
        if spec.media_type in content and spec.media_type != PROBLEM:
            content[spec.media_type]["examples"] = _examples([each.value for each in spec.examples or ()])


def _tell_good_answer(operation: Json, notes: Notes, summaries: Mapping[str, str]) -> None:
    """Headers and links of the answer that goes well. What this process does not serve is not linked."""
    status = min(operation["responses"])
    answer = operation["responses"][status]
    answer.pop("headers", None)
    if status == "204":
        answer.pop("content", None)  # Litestar's, where nothing but headers is answered
    links = {link.operation_id: link for link in notes.links if link.operation_id in summaries}
    if notes.headers:
        answer["headers"] = {
            name: {"description": text, "schema": {"type": "string"}} for name, text in notes.headers.items()
        }
    if links:
        answer["links"] = {
            name: link.to_schema() | {"description": summaries[str(name)]} for name, link in links.items()
        }
