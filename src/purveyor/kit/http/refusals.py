"""Complete error answers outside any route: to requests that are shed, or that cannot be parsed."""

import random
import re
from collections.abc import Sequence

from purveyor.kit.errors import Problem
from purveyor.kit.http.web import problem_body

Headers = Sequence[tuple[bytes, bytes]]
NO_STORE = (b"cache-control", b"no-store")
NOSNIFF = (b"x-content-type-options", b"nosniff")
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


def problem_answer(problem: Problem, instance: str, request_id: str) -> tuple[Fields, bytes]:
    """Header fields and body, the same as for an error of a route."""
    body = problem_body(problem, instance, request_id)
    fields = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    fields += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    return [*fields, (b"x-request-id", request_id.encode()), NOSNIFF, NO_STORE], body


def http_1_answer(status_line: bytes, fields: Fields, body: bytes) -> bytes:
    """A response in HTTP/1.1 format (RFC 9112)."""
    return b"HTTP/1.1 %b\r\n%b\r\n%b" % (status_line, b"".join(b"%b: %b\r\n" % field for field in fields), body)
