"""Asks over HTTP, to a public route on a person's behalf or to a private one in a role's own name.

An ask with a ``route`` carries the person's bearer token, so that the asking role also works against a foreign
service that speaks the same routes. Any other ask goes to the private route of its type with a service token;
``answering`` is the other end.
"""

import re
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec

from purveyor.kit import log, tracing
from purveyor.kit.db.postgres import inside_transaction
from purveyor.kit.deadline import seconds_left
from purveyor.kit.errors import (
    RESET,
    FieldError,
    InvalidInput,
    NotFound,
    Problem,
    RemoteFailure,
    TokenInvalid,
    Unavailable,
    problem_for,
)
from purveyor.kit.events.message import Ask
from purveyor.kit.http.client import HttpClient
from purveyor.kit.http.middleware import MAX_CONCURRENT
from purveyor.transports import ANSWERED_BY, PRIVATE

R = TypeVar("R")

_MAX_REPLY_BYTES = 256 * 1024
_MAX_PRIVATE_REPLY_BYTES = 4 * 1024 * 1024
_WORD = re.compile(r"[!-~]+")  # what a header field carries unchanged
_CARRIED = ("Retry-After", "RateLimit-Policy", "RateLimit")
"""The header fields that belong to an error; what else comes with one belongs to the answer."""
_VALUE = re.compile(r"[ -~]{1,200}")
_UNAUTHORIZED, _NOT_FOUND = 401, 404
_FROM_A_PROXY = (502, 503, 504)
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def http_client(base_url: str, transport: httpx.AsyncBaseTransport | None = None) -> HttpClient:
    """A client for one ask of each request that is worked on, and as many again for what runs beside them."""
    return HttpClient(base_url, at_once=2 * MAX_CONCURRENT, transport=transport)


class HttpAsker:
    """Asks ``role`` in another process. ``sign`` makes a service token for each ask in a role's own name.

    ``repeat`` sends idempotent asks twice, to prove that they are.
    """

    def __init__(
        self,
        client: HttpClient,
        *,
        timeout_s: float,
        role: str = "",
        sign: Callable[[], str] | None = None,
        repeat: bool = False,
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._role, self._sign = role, sign
        self._repeat = repeat
        self.peer = f"{client.base_url.host}:{client.base_url.port or client.base_url.scheme}"  # no credentials

    async def ask(self, message: Ask[R]) -> R:
        if inside_transaction():
            raise RuntimeError(f"{type(message).__name__} was asked inside an open database transaction")
        with tracing.span(f"ask {type(message).__name__}", "client", {"peer.service": self._role}):
            return await self._ask(message)

    async def _ask(self, message: Ask[R]) -> R:
        within_s = seconds_left(self._timeout_s)
        read = _read if message.route else _read_private
        try:
            if self._repeat and message.idempotent:
                await self._client.exchange(self._request(message), read, within_s=within_s)
            response, body = await self._client.exchange(self._request(message), read, within_s=within_s)
        except httpx.DecodingError as error:
            raise RemoteFailure(f"{self.peer} returned an invalid response.") from error
        except (TimeoutError, httpx.HTTPError, *RESET) as error:
            raise Unavailable(f"{self.peer} does not answer.") from error
        if not message.route and response.headers.get(ANSWERED_BY) != self._role:
            raise self._not_answered(response)
        if not response.is_success:  # a redirect is no answer either
            raise _problem(message, response, body)
        try:
            return msgspec.json.decode(body, type=message.reply, strict=False)  # type: ignore[return-value]
        except _UNREADABLE as error:
            raise RemoteFailure(f"{self.peer} returned an invalid response.") from error

    async def check(self) -> str:
        """A sign of life: any answer will do, for a foreign service has other routes. Raises ``Unavailable``.

        Where asks carry a service token, the other side must also take it.
        """
        signed = self._sign is not None
        path, headers = (f"{PRIVATE}/{self._role}", self._identity()) if signed else ("/health/live", {})
        try:
            request = self._client.request("GET", path, headers=headers)
            response, _ = await self._client.exchange(request, _read, within_s=self._timeout_s)
        except (TimeoutError, httpx.HTTPError, *RESET) as error:
            raise Unavailable(f"{self.peer} does not answer.") from error
        if response.status_code in _FROM_A_PROXY:
            raise Unavailable(
                f"{self.peer} returned {response.status_code}. The service behind it does not answer."
            )
        if signed and response.headers.get(ANSWERED_BY) != self._role:
            raise self._not_answered(response)
        return "answers"

    def _identity(self) -> dict[str, str]:
        if self._sign is None:
            raise RuntimeError("an ask in a role's own name needs a service token")
        return {"authorization": f"Bearer {self._sign()}"}

    def _not_answered(self, response: httpx.Response) -> Problem:
        """Explain a response that came from a server in front of the role instead of the role itself."""
        status = response.status_code
        if status == _UNAUTHORIZED:
            return RemoteFailure(
                f"{self.peer} refused the service token. Check SERVICE_SECRET: both processes need the same."
            )
        if status == _NOT_FOUND:
            return RemoteFailure(f"{self.peer} does not run role {self._role}.")
        if status in (429, *_FROM_A_PROXY):
            return Unavailable(f"{self.peer} is not available.")
        return RemoteFailure(f"{self.peer} answered {status} instead of role {self._role}.")

    def _request(self, message: Ask[Any]) -> httpx.Request:
        fields = msgspec.to_builtins(message)
        route = message.route or f"POST {PRIVATE}/{self._role}/{type(message).__name__}"
        method, _, path = route.partition(" ")
        headers = {"accept": "application/json"} | ({} if message.route else self._identity())
        for field, name in message.headers.items():
            if (value := str(fields.pop(field) or "")) and not _VALUE.fullmatch(value):
                raise InvalidInput(f"{field} cannot be sent as the header {name}.")
            headers |= {name: value} if value else {}
        if rid := log.request_id.get():
            headers["x-request-id"] = rid
        if trace := tracing.traceparent.get():
            headers["traceparent"] = trace
        if message.bearer:
            token = fields.pop(message.bearer)
            if not _WORD.fullmatch(token):
                raise TokenInvalid
            headers["authorization"] = f"Bearer {token}"
        for name in re.findall(r"\{(\w+)\}", path):
            segment = str(fields.pop(name))
            if segment in ("", ".", ".."):  # it would make another path, and be answered for that one
                raise NotFound
            path = path.replace("{" + name + "}", quote(segment, safe=""))
        return self._client.request(method, path, headers=headers, json=fields or (None if message.route else {}))


async def _read(response: httpx.Response, at_most: int = _MAX_REPLY_BYTES) -> tuple[httpx.Response, bytes]:
    chunks, size = [], 0
    async for chunk in response.aiter_bytes():
        chunks.append(chunk)
        if (size := size + len(chunk)) > at_most:
            raise httpx.DecodingError("the answer is too large")
    return response, b"".join(chunks)


_read_private = partial(_read, at_most=_MAX_PRIVATE_REPLY_BYTES)


class _Sent(msgspec.Struct):
    type: str = ""
    detail: str = ""
    errors: tuple[FieldError, ...] = ()


def _problem(message: Ask[Any], response: httpx.Response, body: bytes) -> Problem:
    """The error that the other role raised; a foreign service's errors by their status, as the ask reads it."""
    status = response.status_code
    try:
        sent = msgspec.json.decode(body, type=_Sent)
    except _UNREADABLE:
        sent = _Sent()
    kind = problem_for(sent.type.rpartition("/")[2])
    if kind is not None and kind.status == status:
        headers = {name: value for name in _CARRIED if _VALUE.fullmatch(value := response.headers.get(name, ""))}
        return kind(sent.detail, errors=sent.errors, headers=headers)
    if status in message.refusals:
        return message.refusals[status]()
    if status in (429, *_FROM_A_PROXY):
        return Unavailable("Another service is unavailable.")
    return RemoteFailure(f"Another service returned status {status}.")
