"""Whole answers that no route gives: to requests that are turned away before any work, or cannot be read."""

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
    """For a request that came without one: 128 random bits.

    They need not be secret: asking the system for each would cost a call into the kernel.
    """
    return f"{random.getrandbits(128):032x}"


def request_id_of(headers: Headers) -> str:
    """The request id that the client sent, or a new one for a client that sent none or an odd one."""
    for name, value in headers:
        if name == b"x-request-id":
            return value.decode("ascii") if _SANE_ID.fullmatch(value) else new_request_id()
    return new_request_id()


WAITED = "waited_s"
"""Where the application finds that wait, in the state of its scope."""


Fields = list[tuple[bytes, bytes]]


def problem_answer(problem: Problem, instance: str, request_id: str) -> tuple[Fields, bytes]:
    """The header fields and the body, as for an error of a route."""
    body = problem_body(problem, instance, request_id)
    fields = [(b"content-type", b"application/problem+json"), (b"content-length", b"%d" % len(body))]
    fields += [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
    return [*fields, (b"x-request-id", request_id.encode()), NOSNIFF, NO_STORE], body


def http_1_answer(status_line: bytes, fields: Fields, body: bytes) -> bytes:
    """An answer as it goes over the wire (RFC 9112)."""
    return b"HTTP/1.1 %b\r\n%b\r\n%b" % (status_line, b"".join(b"%b: %b\r\n" % field for field in fields), body)
