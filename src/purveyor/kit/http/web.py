"""Requests and responses: strict decoding of bodies, authentication, errors as problem details (RFC 9457).

Bodies are decoded here rather than by Litestar, strictly into the handler's struct. No input ends in a 500, not
even invalid UTF-8, deep nesting, NUL or lone surrogates.
"""

import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.connection.base import empty_receive, empty_send
from litestar.exceptions import HTTPException, ValidationException
from litestar.types import Receive

from purveyor.kit import errors, log
from purveyor.kit.errors import (
    BadRequest,
    BodyTooLarge,
    FieldError,
    InvalidInput,
    Problem,
    TokenInvalid,
    Unauthorized,
)
from purveyor.kit.events.message import encode
from purveyor.kit.http.base_path import base_path
from purveyor.kit.http.input_errors import (
    REPEATED,
    find_faults,
    find_nul,
    find_repeated,
    in_plain_words,
    merged,
)
from purveyor.kit.http.query import find_query_faults
from purveyor.kit.json_input import UNREADABLE, decode_json, decode_untyped

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
"""The security requirement of a route that needs an access token, for the OpenAPI document."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,8192}=*")  # RFC 6750 section 2.1
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_DISCONNECTED = "client disconnected prematurely"
_BY_STATUS = {
    400: BadRequest,
    401: Unauthorized,
    403: errors.Forbidden,
    404: errors.NotFound,
    405: errors.MethodNotAllowed,
    413: BodyTooLarge,
    415: errors.UnsupportedMediaType,
}


class ProblemBody(msgspec.Struct, omit_defaults=True, rename={"kind": "type"}):
    """An error as RFC 9457 problem details."""

    kind: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: tuple[FieldError, ...] = ()


class ApiRequest(Request[Any, Any, Any]):
    """A request whose ``data`` is decoded strictly into the handler's struct."""

    _whole: bytes | None = None

    def __init__(self, scope: Any, receive: Any = empty_receive, send: Any = empty_send) -> None:
        self.scope, self.receive, self.send = scope, receive, send

    def __getattr__(self, name: str) -> Any:
        """Create what Litestar keeps in a request at the first use, since most handlers use none of it."""
        super().__init__(self.scope, self.receive, self.send)
        return object.__getattribute__(self, name)

    async def body(self) -> bytes:
        """Read the whole body, without parsing the headers as Litestar does. Raises ``Problem``."""
        if self._whole is None:
            self._whole = await _read_body(self.receive)
        return self._whole

    async def json(self) -> Any:
        """Decode the body as the type of the handler's ``data``. Raises ``Problem``."""
        body = await self.body()
        handler: Any = self.route_handler
        target = handler.parsed_data_field.annotation
        sent = find_header(self, b"content-type")
        media = ("application/json" if sent is None else sent).partition(";")[0].strip().lower()
        if media == "application/x-www-form-urlencoded" and "form" in handler.opt:
            return _decode_form(body, target, handler.opt["form"])
        if media != "application/json" and not media.endswith("+json"):
            raise errors.UnsupportedMediaType(
                f"Content-Type {media[:80]!r} is not supported. Send application/json."
            )
        return decode(body, target)


async def _read_body(receive: Receive) -> bytes:
    pieces: list[bytes] = []
    size, more_body = 0, True
    while more_body:
        message: Any = await receive()
        if message["type"] == "http.disconnect":
            raise BadRequest(_DISCONNECTED)  # the answer is never read
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > MAX_BODY_BYTES:
            raise BodyTooLarge
        more_body = message.get("more_body", False)
    return b"".join(pieces)


class ApiResponse(Response[Any]):
    """A response in JSON with decimals as numbers; bytes are sent unchanged."""

    def __init__(
        self,
        content: Any,
        *,
        headers: Mapping[str, str] | None = None,
        status_code: int | None = None,
        media_type: str | None = None,
        **more: Any,
    ) -> None:
        if more:
            super().__init__(content, headers=headers, status_code=status_code, media_type=media_type, **more)
            return
        # Litestar's constructor takes as long as most handlers.
        self.content = content
        self.headers = dict(headers or {})
        self.status_code = status_code
        self.media_type = media_type
        self.cookies = []
        self.background = None
        self.encoding = "utf-8"
        self.response_type_encoders = {}

    def render(self, content: Any, media_type: str, *args: Any) -> bytes:
        if isinstance(content, bytes) or "json" not in media_type:
            return super().render(content, media_type, *args)
        return encode(content)


def decode(body: bytes, target: Any) -> Any:
    """Decode a JSON body strictly. Raises ``BadRequest`` (unreadable) or ``InvalidInput`` (wrong)."""
    try:
        decoded = decode_json(body, target)
    except msgspec.ValidationError as error:
        faults = find_body_faults(body, target)
        raise InvalidInput(errors=faults or [FieldError("", in_plain_words(str(error)))]) from error
    except UNREADABLE as error:
        raise _unreadable(error) from error
    if find_repeated(body) or (b"\\u0000" in body and _NUL.search(body)):
        raise InvalidInput(errors=find_body_faults(body, target))
    return decoded


def find_body_faults(body: bytes, target: Any) -> list[FieldError]:
    """All faults of a JSON body. Raises ``BadRequest`` for one that is unreadable."""
    value = _untyped(body)
    return merged(find_faults(value, target), find_nul(value), find_repeated(body))


def _untyped(body: bytes) -> Any:
    try:
        return decode_untyped(body)
    except UNREADABLE as error:
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> BadRequest:
    return BadRequest(f"The body is not valid JSON: {_first_line(error)}.")


def _decode_form(body: bytes, target: Any, names: Mapping[str, str]) -> Any:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError as error:
        raise BadRequest("The body is not a valid form.") from error
    known = [(names[name], value) for name, value in pairs if name in names]
    counts = Counter(member for member, _ in known)
    if twice := [member for member, count in counts.items() if count > 1]:
        raise InvalidInput(errors=[FieldError(f"/{each}", REPEATED) for each in twice])
    fields = dict(known)
    try:
        decoded = msgspec.convert(fields, target)
    except msgspec.ValidationError as error:
        faults = merged(find_faults(fields, target), find_nul(fields))
        raise InvalidInput(errors=faults or [FieldError("", in_plain_words(str(error)))]) from error
    if nul := find_nul(fields):
        raise InvalidInput(errors=nul)
    return decoded


def _first_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error).partition("\n")[0].rstrip(".")


def find_header(connection: ASGIConnection[Any, Any, Any, Any], name: bytes) -> str | None:
    """One request header (``name`` in lower case), or ``None``.

    Raises ``BadRequest`` if the header was sent more than once, since proxies disagree which one counts.
    """
    found: str | None = None
    for key, value in connection.scope["headers"]:
        if key == name:
            if found is not None:
                raise BadRequest(f"The {name.decode().title()} header was sent more than once. Send it once.")
            found = value.decode("latin-1")
    return found


def header(connection: ASGIConnection[Any, Any, Any, Any], name: bytes) -> str:
    """One request header (``name`` in lower case), or an empty string. Raises as ``find_header``."""
    return find_header(connection, name) or ""


def find_list_header(connection: ASGIConnection[Any, Any, Any, Any], name: bytes) -> str | None:
    """A header whose value is a list, from all its fields (RFC 9110 section 5.3), or ``None``."""
    fields = [value.decode("latin-1") for key, value in connection.scope["headers"] if key == name]
    return ", ".join(fields) if fields else None


def bearer_token(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """The access token of the request (RFC 6750 section 2.1); raises ``Unauthorized`` without a readable one."""
    scheme, _, token = header(connection, b"authorization").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("Send the access token as Authorization: Bearer <token>.")
    if not _TOKEN.fullmatch(token):
        raise TokenInvalid
    return token


async def check_request(request: Request[Any, Any, Any]) -> None:
    """Default ``before_request``: refuse a body that is compressed or too large."""
    coding = find_list_header(request, b"content-encoding")
    if coding is not None and coding.strip().lower() not in ("", "identity"):
        raise errors.UnsupportedMediaType(
            f"Content-Encoding {coding[:80]!r} is not supported. Send the body without compression.",
            headers={"Accept-Encoding": "identity"},
        )
    length = find_header(request, b"content-length")  # Litestar checks it only if the handler reads the body
    if length is not None and int(length) > MAX_BODY_BYTES:  # the server's parser accepted it as a number
        raise BodyTooLarge
    if faults := find_query_faults(request):
        raise InvalidInput("A parameter is not valid.", errors=[*faults, *await _body_faults(request)])


async def _body_faults(request: Request[Any, Any, Any]) -> Sequence[FieldError]:
    """The faults of the body that the handler takes, for an answer that names all faults of the request."""
    handler: Any = request.route_handler
    field = handler.parsed_data_field
    if field is None or (not field.is_required and not await request.body()):
        return ()
    try:
        await request.json()
    except InvalidInput as error:
        return error.errors
    return find_body_faults(await request.body(), field.annotation) if "form" not in handler.opt else ()


ReadToken = Callable[[Request[Any, Any, Any]], Awaitable[str]]
"""Finds the access token of a request. Raises ``Unauthorized``."""


async def read_bearer(request: Request[Any, Any, Any]) -> str:
    """The access token in the ``Authorization`` header."""
    return bearer_token(request)


def signed_in(
    verify: Callable[[str], Awaitable[object]], read_token: ReadToken = read_bearer
) -> Callable[[Request[Any, Any, Any]], Awaitable[None]]:
    """A ``before_request`` that requires a valid access token before the body is read.

    It sets ``request.user``. A Litestar guard would cost 5 % of each request, because it copies the handler.
    """

    async def authenticate(request: Request[Any, Any, Any]) -> None:
        request.scope["user"] = await verify(await read_token(request))
        await check_request(request)

    return authenticate


def problem_body(problem: Problem, instance: str, request_id: str, base: str) -> bytes:
    """The problem details (RFC 9457).

    ``instance`` is the path of the request as it was sent, ``base`` the path of ``PUBLIC_URL``.
    """
    body = ProblemBody(
        kind=f"{base}/problems/{problem.code}",
        title=problem.title,
        status=problem.status,
        detail=problem.detail,
        instance=instance,
        request_id=request_id,
        errors=problem.errors,
    )
    if not problem.members:
        return encode(body)
    return encode({**msgspec.to_builtins(body), **problem.members})


def sent_path(scope: Any) -> str:
    """The path as the client sent it: percent-encoded, with its trailing slash."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("ascii", "replace")


def _answer(request: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    return Response(
        problem_body(problem, sent_path(request.scope), log.request_id.get(), base_path.get()),
        status_code=problem.status,
        media_type="application/problem+json",
        headers=problem.headers,
    )


def _on_problem(request: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    if problem.status >= 500 and not problem.is_logged:  # noqa: PLR2004 - server errors
        # No traceback: it is always the same, and costly while a server is down and every request fails.
        logger.warning("%s", problem.detail, extra={"code": problem.code} | log.cause_of(problem))
    return _answer(request, problem)


def _on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if isinstance(error, ValidationException):
        return _answer(request, _parameter_problem(error))
    kind = _BY_STATUS.get(error.status_code)
    if kind is None:
        return _on_unexpected(request, error)
    detail = "" if kind in (errors.NotFound, errors.MethodNotAllowed, errors.BodyTooLarge) else error.detail
    return _answer(request, kind(detail, headers=_headers(error)))


def _headers(error: HTTPException) -> dict[str, str]:
    """Litestar's headers; ``Allow`` contains HEAD wherever it contains GET, as the middleware answers it."""
    headers = dict(error.headers or {})
    for name in headers.keys() & {"Allow", "allow"}:
        methods = {method.strip() for method in headers.pop(name).split(",")}
        headers["Allow"] = ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
    return headers


def missing_body() -> BadRequest:
    """The problem of a request without the body that its handler needs."""
    return BadRequest("The body is empty. Send a JSON object.")


def _parameter_problem(error: ValidationException) -> Problem:
    """The problem for Litestar's own validation: parameters, and a missing body."""
    found = [item for item in error.extra or () if isinstance(item, Mapping)]
    if any(item.get("key") == "data" for item in found) or not found:
        return missing_body()
    return InvalidInput(
        "A parameter is not valid.",
        errors=[
            FieldError(f"/{item.get('key', '')}", in_plain_words(str(item.get("message", "")))[:200])
            for item in found
        ],
    )


def _on_unexpected(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    logger.error("unexpected error", exc_info=error, extra={"path": request.scope["path"]})
    return _answer(request, Problem())


EXCEPTION_HANDLERS: dict[int | type[Exception], Any] = {
    Problem: _on_problem,
    HTTPException: _on_http_exception,
    Exception: _on_unexpected,
}
