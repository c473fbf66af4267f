"""Every error that a client or another role can meet: one tree, each with a code, a status and a sentence.

``kit/http/web.py`` alone turns them into responses (RFC 9457); transports carry them by their code, so that the
same class is caught whether the role that raised it runs here or elsewhere.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import msgspec

_UNEXPECTED = "Something went wrong on our side. The request id helps us to find it in the logs."


RESET = (OSError, AttributeError, RuntimeError)
"""What asyncio, anyio and uvloop raise, past the client library's own errors, for a connection that is reset while
it is made or written to."""


class FieldError(msgspec.Struct, frozen=True):
    """One thing wrong with the input: a JSON Pointer (RFC 6901) to it, and what is wrong."""

    pointer: str
    detail: str


class Problem(Exception):
    """Base of all errors that have a place in the contract.

    ``code`` is stable and is the last part of the problem type (``/problems/<code>``), whose page shows the
    docstring: it is written for the client who meets the error. The default errors and headers go with every
    one of a class, unless others are given.
    """

    code: ClassVar[str] = "internal-error"
    status: ClassVar[int] = 500
    title: ClassVar[str] = "Internal error"
    default_errors: ClassVar[Sequence[FieldError]] = ()
    default_headers: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        detail: str = "",
        *,
        errors: Sequence[FieldError] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.errors = tuple(errors or self.default_errors)
        self.headers = {**self.default_headers, **(headers or {})}

    @classmethod
    def about(cls) -> str:
        """What the error means and what to do, for its page."""
        return inspect.cleandoc(cls.__doc__ or "") if cls is not Problem else _UNEXPECTED


class BadRequest(Problem):
    """The body is not well-formed JSON in UTF-8, or a header or parameter cannot be read at all."""

    code, status, title = "bad-request", 400, "The request cannot be read"


class Unauthorized(Problem):
    """The route needs a valid access token: Authorization: Bearer <token>. POST /login gives one."""

    code, status, title = "unauthorized", 401, "Sign in first"
    default_headers: ClassVar = {"WWW-Authenticate": "Bearer"}


class TokenInvalid(Unauthorized):
    """The token is expired, revoked, malformed or not ours. Log in again for a new one."""

    code, title = "token-invalid", "The access token is not valid"


class Forbidden(Problem):
    """You are signed in, but this needs another level of access."""

    code, status, title = "forbidden", 403, "Not allowed"


class NotFound(Problem):
    """There is nothing here, or it belongs to somebody else: the answer is the same."""

    code, status, title = "not-found", 404, "Not found"


class MethodNotAllowed(Problem):
    """The path exists, but not with this method. The Allow header lists the methods that it has."""

    code, status, title = "method-not-allowed", 405, "Method not allowed"


class RequestTimeout(Problem):
    """The rest of the request did not come in time: a head has 10 seconds, a body 15."""

    code, status, title = "request-timeout", 408, "The request did not come in time"


class Conflict(Problem):
    """The request clashes with what is there now."""

    code, status, title = "conflict", 409, "Conflict with the current state"


class BodyTooLarge(Problem):
    """Request bodies are limited to 64 KiB."""

    code, status, title = "body-too-large", 413, "The body is too large"


class UnsupportedMediaType(Problem):
    """Bodies are JSON: send Content-Type: application/json."""

    code, status, title = "unsupported-media-type", 415, "Unsupported media type"


class InvalidInput(Problem):
    """The JSON is well-formed, but a member is missing, unknown, of the wrong type or out of range.

    Each entry of errors points at one of them.
    """

    code, status, title = "invalid-input", 422, "The input is not valid"


class HeadTooLarge(Problem):
    """The request line and the header fields are limited to 32 KiB together."""

    code, status, title = "head-too-large", 431, "The header fields are too large"


class TooManyRequests(Problem):
    """A rate limit is used up. Retry-After says in how many seconds to try again."""

    code, status, title = "too-many-requests", 429, "Too many requests"


class Unavailable(Problem):
    """Something that this needs is down or too slow.

    Nothing was changed that you were not told of; try again.
    """

    code, status, title = "unavailable", 503, "Not available right now"

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
    """Too many events wait to be handed on, because the broker has been away for long: nothing new is taken on
    until they have gone. Retry-After says when to try again; a request that was accepted before stays accepted.
    """

    code, title = "event-backlog", "Too many events wait to be handed on"


class Overloaded(Unavailable):
    """More requests came than can be answered in time, and this one was turned away before any work was done.

    Try again after Retry-After seconds.
    """

    code, title = "overloaded", "Too much to do right now"


class RemoteFailure(Unavailable):
    """A service that this one asks gave an answer that it should not give."""

    code, title = "remote-failure", "A service behind this one failed"


def problem_types() -> Iterator[type[Problem]]:
    """Every problem type that is loaded, parents first: for the pages and for carrying errors by code."""
    waiting = [Problem]
    while waiting:
        kind = waiting.pop(0)
        yield kind
        waiting.extend(kind.__subclasses__())


def problem_for(code: str) -> type[Problem] | None:
    """The class with this code, or ``None`` where no loaded role has it."""
    return next((kind for kind in problem_types() if kind.code == code), None)


class ConfigError(Exception):
    """A setting, option or role that cannot work: one line for stderr, exit code 2."""


class StartupError(Exception):
    """Something outside that is needed to start is not there: one line for stderr, exit code 1."""


class ServerAway(StartupError):
    """A server that does not answer now; it may be starting, so it is worth to wait for it."""
