"""Requests and responses: strict decoding of bodies, authentication, errors as problem details (RFC 9457).

Bodies are decoded here rather than by Litestar, strictly into the handler's struct. No input ends in a 500, not
even invalid UTF-8, deep nesting, NUL or lone surrogates.
"""

import json
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, InternalServerException, ValidationException

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
from purveyor.kit.http.input_errors import find_faults, in_plain_words

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 64 * 1024
BEARER: list[dict[str, list[str]]] = [{"bearer": []}]
"""The security requirement of a route that needs an access token, for the OpenAPI document."""

_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,8192}=*")  # RFC 6750 section 2.1
_decoders: dict[object, msgspec.json.Decoder[Any]] = {}
_FIRST_INEXACT = 2**53
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_DISCONNECTED = "client disconnected prematurely"  # Litestar has no class for it
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

    async def json(self) -> Any:
        """Decode the body as the type of the handler's ``data``. Raises ``Problem``."""
        body = await self.body()
        handler: Any = self.route_handler
        target = handler.parsed_data_field.annotation
        media = self.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if media == "application/x-www-form-urlencoded" and "form" in handler.opt:
            return _decode_form(body, target, handler.opt["form"])
        if media != "application/json" and not media.endswith("+json"):
            raise errors.UnsupportedMediaType(
                f"Content-Type {media[:80]!r} is not supported. Send application/json."
            )
        return decode(body, target)


class ApiResponse(Response[Any]):
    """A response in JSON with decimals as numbers; bytes are sent unchanged."""

    def render(self, content: Any, media_type: str, *args: Any) -> bytes:
        if isinstance(content, bytes) or "json" not in media_type:
            return super().render(content, media_type, *args)
        return encode(content)


def decode(body: bytes, target: Any) -> Any:
    """Decode a JSON body strictly. Raises ``BadRequest`` (unreadable) or ``InvalidInput`` (wrong)."""
    decoder = _decoders.get(target)
    if decoder is None:
        decoder = _decoders[target] = msgspec.json.Decoder(target)
    try:
        decoded = decoder.decode(body)
    except msgspec.ValidationError as error:
        decoded = _with_whole_numbers(_plain_json(body), target, str(error))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON: {_first_line(error)}.") from error
    if b"\\u0000" in body and _NUL.search(body):
        raise BadRequest("The body contains the character U+0000, which is not allowed.")
    return decoded


def _with_whole_numbers(value: Any, target: Any, message: str) -> Any:
    """Convert a body in which ``2.0`` stands for the integer 2. Raises ``InvalidInput``."""
    try:
        whole = _whole(value)
        return msgspec.convert(whole, target)
    except RecursionError as error:
        raise BadRequest(f"The body is not valid JSON: {_first_line(error)}.") from error
    except msgspec.ValidationError as error:
        raise _invalid(whole, target, message) from error


def _whole(value: Any) -> Any:
    """JSON with integers in place of floats that are whole numbers and exact (RFC 8259 section 6)."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) < _FIRST_INEXACT else value
    if isinstance(value, dict):
        return {name: _whole(member) for name, member in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def _plain_json(body: bytes) -> Any:
    """The body without a type, ``None`` if a number has too many digits. Raises ``BadRequest`` if not JSON."""
    try:
        return msgspec.json.decode(body)
    except msgspec.ValidationError:
        with suppress(ValueError):  # more digits than the interpreter reads
            return json.loads(body)
        return None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadRequest(f"The body is not valid JSON: {_first_line(error)}.") from error


def _decode_form(body: bytes, target: Any, names: Mapping[str, str]) -> Any:
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict")
    except ValueError as error:
        raise BadRequest("The body is not a valid form.") from error
    fields = {names[name]: value for name, value in pairs if name in names}
    if any("\x00" in value for value in fields.values()):
        raise BadRequest("The form contains the character U+0000, which is not allowed.")
    try:
        return msgspec.convert(fields, target)
    except msgspec.ValidationError as error:
        raise _invalid(fields, target, str(error)) from error


def _first_line(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8"
    return str(error).partition("\n")[0].rstrip(".")


def _invalid(value: Any, target: Any, message: str) -> InvalidInput:
    """Every fault of the value; the one that msgspec found where the walk through the type finds none."""
    return InvalidInput(
        "The input is not valid.", errors=find_faults(value, target) or [FieldError("", in_plain_words(message))]
    )


def find_header(connection: ASGIConnection[Any, Any, Any, Any], name: bytes) -> str | None:
    """One request header (``name`` in lower case), or ``None``."""
    for key, value in connection.scope["headers"]:
        if key == name:
            return value.decode("latin-1")
    return None


def header(connection: ASGIConnection[Any, Any, Any, Any], name: bytes) -> str:
    """One request header (``name`` in lower case), or an empty string."""
    return find_header(connection, name) or ""


def bearer_token(connection: ASGIConnection[Any, Any, Any, Any]) -> str:
    """The access token of the request (RFC 6750 section 2.1); raises ``Unauthorized`` without a readable one."""
    scheme, _, token = header(connection, b"authorization").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token:
        raise Unauthorized("Send the access token as Authorization: Bearer <token>.")
    if not _TOKEN.fullmatch(token):
        raise TokenInvalid
    return token


async def require_short_body(request: Request[Any, Any, Any]) -> None:
    """Default ``before_request``; Litestar checks the length only if the handler reads the body."""
    length = find_header(request, b"content-length")
    if length is not None and int(length) > MAX_BODY_BYTES:  # the server's parser accepted it as a number
        raise BodyTooLarge


def signed_in(verify: Callable[[str], Awaitable[object]]) -> Callable[[Request[Any, Any, Any]], Awaitable[None]]:
    """A ``before_request`` that requires a valid access token before the body is read.

    It sets ``request.user``. A Litestar guard would cost 5 % of each request, because it copies the handler.
    """

    async def authenticate(request: Request[Any, Any, Any]) -> None:
        request.scope["user"] = await verify(bearer_token(request))
        await require_short_body(request)

    return authenticate


def problem_body(problem: Problem, instance: str, request_id: str) -> bytes:
    """The problem details (RFC 9457); ``instance`` is the path of the request as it was sent."""
    body = ProblemBody(
        kind=f"/problems/{problem.code}",
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
        problem_body(problem, sent_path(request.scope), log.request_id.get()),
        status_code=problem.status,
        media_type="application/problem+json",
        headers=problem.headers,
    )


def _on_problem(request: Request[Any, Any, Any], problem: Problem) -> Response[bytes]:
    if problem.status >= 500:  # noqa: PLR2004 - server errors
        # No traceback: it is always the same, and costly while a server is down and every request fails.
        logger.warning("%s", problem.detail, extra={"code": problem.code} | log.cause_of(problem))
    return _answer(request, problem)


def _on_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if isinstance(error, ValidationException):
        return _answer(request, _parameter_problem(error))
    kind = _BY_STATUS.get(error.status_code)
    if isinstance(error, InternalServerException) and error.detail == _DISCONNECTED:
        kind = BadRequest  # the answer is never read
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


def _parameter_problem(error: ValidationException) -> Problem:
    """The problem for Litestar's own validation: parameters, and a missing body."""
    found = [item for item in error.extra or () if isinstance(item, Mapping)]
    if any(item.get("key") == "data" for item in found) or not found:
        return BadRequest("The body is empty. Send a JSON object.")
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
