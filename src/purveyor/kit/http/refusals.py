"""Complete error answers outside any route: to requests that are shed, or that cannot be parsed."""

import random
import re
from collections.abc import Sequence

from litestar.types import Send

from purveyor.kit import log
from purveyor.kit.errors import Problem
from purveyor.kit.http.base_path import base_path
from purveyor.kit.http.web import problem_body

Headers = Sequence[tuple[bytes, bytes]]
NO_STORE = (b"cache-control", b"no-store")
NOSNIFF = (b"x-content-type-options", b"nosniff")
CSP = (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'")
"""Content-Security-Policy of data, which no browser should render."""
_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


def new_request_id() -> str:
    """An ID of 128 random bits. It need not be secret, and ``secrets`` would cost a system call each time."""
    return f"{random.getrandbits(128):032x}"


def request_id_of(headers: Headers) -> str:
    """The client's request ID, or a new one if it sent none or an invalid one."""
    for name, value in headers:
        if name == b"x-request-id":
            return value.decode("ascii") if _SANE_ID.fullmatch(value) else new_request_id()
    return new_request_id()


WAITED = "waited_s"
"""Key in the state of the ASGI scope: seconds that the request waited before it was read."""
Fields = list[tuple[bytes, bytes]]


Answer = tuple[int, Fields, bytes]
"""Status, header fields and body."""


def problem_answer(problem: Problem, instance: str, request_id: str, base: str = "") -> tuple[Fields, bytes]:
    """Header fields and body, the same as for an error of a route. ``base`` is the path of ``PUBLIC_URL``."""
    body = problem_body(problem, instance, request_id, base)
    return [*_fields(problem, body), (b"x-request-id", request_id.encode()), NOSNIFF, NO_STORE, CSP], body


def problem_response(problem: Problem, instance: str) -> Answer:
    """The answer inside ``RequestContext``, which adds the fields of every answer."""
    body = problem_body(problem, instance, log.request_id.get(), base_path.get())
    return problem.status, _fields(problem, body), body


def _fields(problem: Problem, body: bytes) -> Fields:
    fields = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    return [*fields, *((name.lower().encode(), value.encode()) for name, value in problem.headers.items())]


async def send_answer(send: Send, answer: Answer) -> None:
    """Send a whole ASGI response."""
    status, fields, body = answer
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def http_1_answer(status_line: bytes, fields: Fields, body: bytes) -> bytes:
    """A response in HTTP/1.1 format (RFC 9112)."""
    return b"HTTP/1.1 %b\r\n%b\r\n%b" % (status_line, b"".join(b"%b: %b\r\n" % field for field in fields), body)
