"""Calls handlers without Litestar's request handling, which takes longer than most handlers do.

Litestar still does the routing and the API document. It also serves every handler that needs one of its features
that this module does not support.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from inspect import iscoroutinefunction
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Response
from litestar.di import Provide
from litestar.handlers import HTTPRouteHandler
from litestar.params import BodyKwarg, ParameterKwarg
from litestar.response.base import ASGIResponse
from litestar.serialization import get_serializer
from litestar.types import Receive, Send
from litestar.typing import FieldDefinition
from litestar.utils import normalize_path

from purveyor.kit.http.query import path_names, query_fields
from purveyor.kit.http.refusals import Answer, send_answer
from purveyor.kit.http.web import MAX_BODY_BYTES, ApiRequest, ApiResponse, missing_body

_WITHOUT_BODY = (204, 304)
_NOTHING = (b"", b"null")
_PLAIN = (Response, ApiResponse)
_FEATURES = ("guards", "middleware", "after_response", "response_cookies", "data_dto", "return_dto")
"""Features that this module does not support."""


class DirectApp:
    """The ASGI application that calls most handlers of a ``Litestar`` itself."""

    def __init__(self, litestar: Litestar) -> None:
        self.litestar = litestar
        self._find = lru_cache(1024)(self._route)
        handlers = {handler for route in litestar.routes for handler in getattr(route, "route_handlers", ())}
        self.direct = {handler: found for handler in handlers if (found := _direct(handler, litestar))}
        """The handlers that Litestar does not serve."""

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        by_route = scope["type"] == "http" and not scope.get("root_path")
        found = self._find(scope["path"], scope["method"]) if by_route else None
        if found is None:
            await self.litestar(scope, receive, send)
            return
        handler, members = found
        scope.update(members)
        scope.setdefault("state", {})
        await handler(ApiRequest(scope, receive, send))

    def _route(self, path: str, method: Any) -> tuple["_Direct", Mapping[str, Any]] | None:
        """The handler of a request and what to add to the scope, or ``None`` if Litestar serves the request."""
        try:
            _, handler, path, path_params, template = self.litestar.asgi_router.handle_routing(
                path=normalize_path(path), method=method
            )
        except Exception:
            return None
        direct = self.direct.get(handler)
        if direct is None:
            return None
        return direct, {
            "app": self.litestar,
            "litestar_app": self.litestar,
            "route_handler": handler,
            "path": path,
            "path_params": path_params,
            "path_template": template,
        }


class _OnlyLitestar(Exception):
    """A handler uses a feature that this module does not support."""


def _direct(handler: Any, litestar: Litestar) -> "_Direct | None":
    has_more = (
        not isinstance(handler, HTTPRouteHandler)
        or any(getattr(handler, f"resolve_{feature}")() for feature in _FEATURES)
        or any(layer.after_request for layer in handler.ownership_layers)
        or handler.cache
        or handler.background
        or handler.resolve_request_class() is not ApiRequest
        or handler.resolve_request_max_body_size() != MAX_BODY_BYTES
        or handler.resolve_exception_handlers() != litestar.exception_handlers
    )
    try:
        if has_more:
            return None
        is_async = not handler.has_sync_callable  # also if it runs in a thread
        return _Direct(handler, _Call(handler.fn, handler.parsed_fn_signature, handler, is_async=is_async))
    except _OnlyLitestar:
        return None


class _Direct:
    """Answers the requests of one handler."""

    def __init__(self, handler: HTTPRouteHandler, call: "_Call") -> None:
        self._handler = handler
        self._before = handler.resolve_before_request()
        self._call = call
        self._exception_handlers: Mapping[Any, Any] = handler.resolve_exception_handlers()
        self._response_class = handler.resolve_response_class()
        headers = {header.name: header.value for header in handler.resolve_response_headers()}
        self._serializer = get_serializer(handler.resolve_type_encoders())
        self._defaults = (handler.status_code, handler.media_type, headers)

    async def __call__(self, request: ApiRequest) -> None:
        response: Any
        try:
            result = await self._before(request) if self._before else None
            response = result or await self._call(request)
            if not isinstance(response, Response | ASGIResponse):
                response = self._response_class(response)
            answer = _answer(response, self._serializer, *self._defaults)
            if answer is None:
                response = await self._handler.to_response(request.app, response, request)
        except Exception as error:
            kind = next(kind for kind in type(error).__mro__ if kind in self._exception_handlers)
            response = self._exception_handlers[kind](request, error)
            answer = _answer(response, self._serializer)
            if answer is None:
                response = response.to_asgi_response(app=None, request=request)
        if answer is not None:
            await send_answer(request.send, answer)
        else:
            await response(request.scope, request.receive, request.send)


_NO_HEADERS: Mapping[str, Any] = {}


def _answer(
    response: Response[Any],
    serializer: Any,
    status: int = 200,
    media_type: Any = None,
    headers: Mapping[str, Any] = _NO_HEADERS,
) -> Answer | None:
    """The whole answer, or ``None`` if only Litestar can send it. The response overrides the defaults."""
    if type(response) not in _PLAIN or response.cookies or response.background or response.response_type_encoders:
        return None
    media_type = response.media_type or media_type or MediaType.JSON
    media_type = getattr(media_type, "value", media_type)
    body = response.render(response.content, media_type, serializer)
    every = {**headers, **response.headers} if headers else response.headers
    fields = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in every.items()]
    status = response.status_code or status
    if status in _WITHOUT_BODY:
        return (status, fields, b"") if body in _NOTHING else None
    names = [name for name, _ in fields]
    if b"content-type" not in names:
        fields.append(_content_type(media_type))
    if b"content-length" not in names:
        fields.append((b"content-length", b"%d" % len(body)))
    return status, fields, body


@cache
def _content_type(media_type: str) -> tuple[bytes, bytes]:
    charset = "; charset=utf-8" if media_type.startswith("text/") else ""
    return b"content-type", f"{media_type}{charset}".encode()


class _Call:
    """Calls a function with the parts of a request that it takes."""

    def __init__(self, function: Any, signature: Any, handler: Any, *, is_async: bool) -> None:
        """Raises ``_OnlyLitestar`` for a parameter that only Litestar can read."""
        self._function = function
        self._is_async = is_async
        parameters: dict[str, FieldDefinition] = dict(signature.parameters)
        self._takes_request = parameters.pop("request", None) is not None
        data = parameters.pop("data", None)
        self._takes_body = data is not None and _is_json(data)
        self._needs_body = data is not None and data.is_required
        self._query: list[tuple[str, str, Any]] = []
        for name, field in query_fields(signature, handler).items():
            _require_checked(parameters.pop(field.name))
            self._query.append((field.name, name, field.annotation))
        self._path = [name for name in path_names(handler) if name in parameters]
        for name in self._path:
            _require_text(parameters.pop(name))
        dependencies = handler.resolve_dependencies()
        self._dependencies = [(name, _dependency(dependencies.get(name), handler)) for name in parameters]

    async def __call__(self, request: ApiRequest) -> Any:
        arguments: dict[str, Any] = {}
        scope = request.scope
        if self._takes_request:
            arguments["request"] = request
        for name in self._path:
            arguments[name] = scope["path_params"][name]
        if self._query and scope["query_string"]:
            sent = request.query_params
            for argument, name, kind in self._query:
                if name in sent:
                    arguments[argument] = msgspec.convert(sent[name], kind, strict=False)
        if self._takes_body:
            if await request.body():
                arguments["data"] = await request.json()
            elif self._needs_body:
                raise missing_body()
        for name, dependency in self._dependencies:
            arguments[name] = await dependency(request)
        result = self._function(**arguments)
        return await result if self._is_async else result


def _dependency(provided: Provide | None, handler: Any) -> _Call:
    if provided is None or provided.use_cache or not iscoroutinefunction(provided.dependency):
        raise _OnlyLitestar
    return _Call(provided.dependency, provided.parsed_fn_signature, handler, is_async=True)


def _is_json(field: FieldDefinition) -> bool:
    kwarg = field.kwarg_definition
    media_type = kwarg.media_type if isinstance(kwarg, BodyKwarg) else MediaType.JSON
    if media_type != MediaType.JSON or (field.is_optional and field.is_required):
        raise _OnlyLitestar
    return True


def _require_checked(field: FieldDefinition) -> None:
    """Accept only a query parameter that ``find_query_faults`` checks in full."""
    kwarg = field.kwarg_definition
    rest = replace(kwarg, pattern=None, max_length=None) if isinstance(kwarg, ParameterKwarg) else None
    if field.is_required or field.is_non_string_sequence or (rest is not None and rest.is_constrained):
        raise _OnlyLitestar


def _require_text(field: FieldDefinition) -> None:
    """Accept only a path parameter that can be any text."""
    kwarg = field.kwarg_definition
    if field.annotation is not str or (isinstance(kwarg, ParameterKwarg) and (kwarg.is_constrained or kwarg.name)):
        raise _OnlyLitestar
