"""The errors of the API and of the asks between roles, each with a code and a status.

``kit/http/web.py`` turns them into responses (RFC 9457). Transports carry them by code, so that a caller catches
the same class whether the other role runs in this process or elsewhere.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import msgspec

_UNEXPECTED = "An unexpected error occurred on the server. Report the request_id, which is in the logs."

RESET = (OSError, AttributeError, RuntimeError)
"""Raised by asyncio, anyio and uvloop, besides the client library's errors, when a connection is reset."""


class FieldError(msgspec.Struct, frozen=True):
    """An error at one JSON Pointer (RFC 6901) in the input."""

    pointer: str
    detail: str


class Problem(Exception):
    """Base of all errors in the contract.

    ``code`` is stable and the last part of the problem type (``/problems/<code>``). The page of the type shows the
    docstring, which addresses the client.
    """

    code: ClassVar[str] = "internal-error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    default_errors: ClassVar[Sequence[FieldError]] = ()
    default_headers: ClassVar[Mapping[str, str]] = {}
    example_members: ClassVar[Mapping[str, object]] = {}
    """Extension members as the documentation shows them."""
    is_logged: ClassVar[bool] = False
    """True for an outage whose begin and end are logged where it is noticed, not by each request that it fails."""

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
        members: Mapping[str, object] | None = None,
    ) -> None:
        """``members`` are extension members of the problem document (RFC 9457 section 3.2)."""
        super().__init__(detail or self.title)
        self.members = members or {}
        self.detail = detail or self.title
        self.errors = tuple(errors or self.default_errors)
        self.headers = {**self.default_headers, **(headers or {})}

    @classmethod
    def about(cls) -> str:
        return inspect.cleandoc(cls.__doc__ or "") if cls is not Problem else _UNEXPECTED


class BadRequest(Problem):
    """The body is not valid JSON in UTF-8, or a header or parameter is malformed."""

    code, status, title = "bad-request", 400, "The request is malformed"


class Unauthorized(Problem):
    """Send a valid access token as Authorization: Bearer <token>. POST /login returns one."""

    code, status, title = "unauthorized", 401, "Authentication required"
    default_headers: ClassVar = {"WWW-Authenticate": "Bearer"}


class TokenInvalid(Unauthorized):
    """The access token is expired, revoked, malformed or was issued by someone else. Sign in again."""

    code, title = "token-invalid", "The access token is not valid"


class ServiceTokenInvalid(Unauthorized):
    """The route is for other roles of the same installation. Give every process the same SERVICE_SECRET, and check
    that their clocks agree.
    """

    code, title = "service-token-invalid", "The service token is not valid"


class Forbidden(Problem):
    """Your account does not have the role that this request needs."""

    code, status, title = "forbidden", 403, "Not allowed"


class NotFound(Problem):
    """The resource does not exist, or it belongs to another user."""

    code, status, title = "not-found", 404, "Not found"


class MethodNotAllowed(Problem):
    """The path does not support this method. The Allow header lists the supported methods."""

    code, status, title = "method-not-allowed", 405, "Method not allowed"


class RequestTimeout(Problem):
    """The server waits 10 seconds for the request head and 15 seconds for the body."""

    code, status, title = "request-timeout", 408, "The request took too long to arrive"


class Conflict(Problem):
    """The request conflicts with the current state of the resource. Reload it and try again."""

    code, status, title = "conflict", 409, "Conflict with the current state"


class BodyTooLarge(Problem):
    """Request bodies are limited to 64 KiB."""

    code, status, title = "body-too-large", 413, "The request body is too large"


class UnsupportedMediaType(Problem):
    """Send the body as JSON with Content-Type: application/json."""

    code, status, title = "unsupported-media-type", 415, "Unsupported media type"


class InvalidInput(Problem):
    """A member of the request is missing, unknown, of the wrong type or out of range.

    Each entry of errors points at one of them.
    """

    code, status, title = "invalid-input", 422, "The input is not valid"


class Faults:
    """Collects the field errors of several checks, so that one response names all of them.

    Put each check in its own ``with`` block, then call ``raise_if_any`` before using the values::

        faults = Faults()
        with faults:
            name = clean_name(text)
        with faults:
            phone = clean_phone(number)
        faults.raise_if_any()
    """

    def __init__(self) -> None:
        self._errors: list[FieldError] = []

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if not isinstance(error, InvalidInput):
            return False
        self._errors += error.errors
        return True

    def raise_if_any(self) -> None:
        if self._errors:
            raise InvalidInput("The input is not valid.", errors=self._errors)


class HeadTooLarge(Problem):
    """The request line and the headers are limited to 32 KiB in total."""

    code, status, title = "head-too-large", 431, "The request headers are too large"


class TooManyRequests(Problem):
    """The rate limit is exceeded. Try again after the number of seconds in Retry-After."""

    code, status, title = "too-many-requests", 429, "Too many requests"


class Unavailable(Problem):
    """A service that this request needs is down or too slow.

    Try again after the number of seconds in Retry-After.
    """

    code, status, title = "unavailable", 503, "Temporarily unavailable"

    def __init__(
        self,
        detail: str = "",
        *,
        retry_after_s: int = 1,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail, errors=errors, headers={"Retry-After": str(retry_after_s), **(headers or {})})


class EventBacklog(Unavailable):
    """The message broker has been unavailable for long, and the queue of unpublished events is full. New orders
    are refused until it has drained. Accepted orders are safe. Try again after the number of seconds in
    Retry-After.
    """

    code, title = "event-backlog", "Too many events are waiting for the message broker"


class Overloaded(Unavailable):
    """The server has more requests than it can handle and refused this one before any work was done.

    Try again after the number of seconds in Retry-After.
    """

    code, title = "overloaded", "The server is overloaded"


class RemoteFailure(Unavailable):
    """Another service returned an invalid response."""

    code, title = "remote-failure", "Another service failed"


def problem_types() -> Iterator[type[Problem]]:
    """Yield every loaded problem type, parents first."""
    waiting = [Problem]
    while waiting:
        kind = waiting.pop(0)
        yield kind
        waiting.extend(kind.__subclasses__())


def problem_for(code: str) -> type[Problem] | None:
    """Return the loaded class with this code, or ``None``."""
    return next((kind for kind in problem_types() if kind.code == code), None)


class ConfigError(Exception):
    """An invalid setting, option or role. Ends the process with one line on stderr and exit code 2."""


class StartupError(Exception):
    """A dependency is missing at startup. Ends the process with one line on stderr and exit code 1."""


class ServerAway(StartupError):
    """A server does not answer; it may still be starting, so a retry is worthwhile."""
