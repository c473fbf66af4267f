"""Query parameters: unknown, repeated and wrong ones are refused before the handler runs, all at once.

What is known and right comes from the parameters that the handler and its dependencies declare. Pages and files
declare none and ignore what is appended to their links, such as ``utm_source``.
"""

import re
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import MediaType, Request
from litestar.enums import ParamType
from litestar.typing import FieldDefinition

from purveyor.kit.errors import FieldError
from purveyor.kit.http.input_errors import MOST, in_plain_words, suggestion
from purveyor.kit.ids import parse_id

_NUMBER = re.compile(r"[1-9][0-9]{0,18}")
_RESERVED = {"request", "data", "body", "headers", "cookies", "query", "state", "scope", "socket"}
_IN_PATH = re.compile(r"{(\w+)")


def find_query_faults(request: Request[Any, Any, Any]) -> list[FieldError]:
    """All faults of the query, unless the route is a page or a file."""
    query: bytes = request.scope.get("query_string", b"")
    if not query:
        return []
    handler: Any = request.route_handler
    declared = _declared(handler)
    if not declared and (not handler.resolve_include_in_schema() or handler.media_type == MediaType.HTML):
        return []
    sent: dict[str, list[str]] = {}
    for name, text in parse_qsl(query.decode("latin-1"), keep_blank_values=True, separator="&"):
        sent.setdefault(name, []).append(text)
    faults = []
    for name, texts in sent.items():
        if problem := _fault(name, texts, declared):
            faults.append(FieldError("/" + name[:100].replace("~", "~0").replace("/", "~1"), problem))
    return faults[:MOST]


def _fault(name: str, texts: list[str], declared: dict[str, FieldDefinition]) -> str:
    field = declared.get(name)
    if field is None:
        known = f"; this operation takes {', '.join(declared)}" if declared else "; this operation takes none"
        return f"is not a known parameter{suggestion(name, declared) or known}"
    if field.is_non_string_sequence:
        return ""  # Litestar's to read
    if len(texts) > 1:
        return "must not be sent more than once"
    return _value_fault(texts[0], field)


def _value_fault(text: str, field: FieldDefinition) -> str:
    if "\x00" in text:
        return "must not contain the character U+0000"
    if field.is_optional and text.lower() == "null":  # msgspec would read it as a parameter that is missing
        return "must not be null; leave it out instead"
    return _schema_fault(text, field) or _type_fault(text, field)


def _schema_fault(text: str, field: FieldDefinition) -> str:
    schema = getattr(field.kwarg_definition, "schema_extra", None) or {}
    if schema.get("type") == "integer":
        return number_fault(text, schema["maximum"])
    if "enum" in schema and text not in schema["enum"]:
        return f"must be one of {', '.join(schema['enum'])}"
    if schema.get("format") == "uuid" and parse_id(text) is None:
        return "must be next_cursor of the previous page" if field.name == "cursor" else "must be a UUID"
    return _time_fault(text) if schema.get("format") == "date-time" else ""


def _type_fault(text: str, field: FieldDefinition) -> str:
    kwarg: Any = field.kwarg_definition
    if kwarg and kwarg.pattern and not re.search(kwarg.pattern, text):
        return f"must match {kwarg.pattern}"
    if kwarg and kwarg.max_length is not None and len(text) > kwarg.max_length:
        return f"must have at most {kwarg.max_length} characters"
    try:
        msgspec.convert(text, field.annotation, strict=False)
    except msgspec.ValidationError as error:
        return in_plain_words(str(error))
    return ""


def number_fault(text: str, highest: int) -> str:
    """Describe what is wrong with a number from 1 to ``highest``, written in digits only; empty if valid."""
    if _NUMBER.fullmatch(text) and int(text) <= highest:
        return ""
    return f"must be a whole number from 1 to {highest}"


def _time_fault(text: str) -> str:
    try:
        msgspec.convert(text, datetime)  # stricter than Litestar, which accepts seconds since 1970
    except msgspec.ValidationError:
        return "must be a time, such as 2026-03-01T09:30:00Z"
    return ""


@lru_cache(maxsize=1024)
def _declared(handler: Any) -> dict[str, FieldDefinition]:
    """The query parameters of a handler and its dependencies, by the name that a client uses."""
    signatures = [handler, *handler.resolve_dependencies().values()]
    return {
        name: field
        for each in signatures
        for name, field in query_fields(each.parsed_fn_signature, handler).items()
    }


def query_fields(signature: Any, handler: Any) -> dict[str, FieldDefinition]:
    """The query parameters in the signature of a handler or of its dependency, by the name that a client uses."""
    elsewhere = {*_RESERVED, *handler.resolve_dependencies(), *path_names(handler)}
    fields = {}
    for name, field in signature.parameters.items():
        kwarg = field.kwarg_definition
        if name not in elsewhere and getattr(kwarg, "param_type", None) in (None, ParamType.QUERY):
            fields[getattr(kwarg, "name", None) or getattr(kwarg, "query", None) or name] = field
    return fields


def path_names(handler: Any) -> set[str]:
    """The names of the parameters in a handler's paths."""
    return {name for path in handler.paths for name in _IN_PATH.findall(path)}
