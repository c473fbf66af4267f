"""Whole answers that no route gives: to requests that are turned away before any work, or cannot be read."""

from purveyor.kit.edge import NO_STORE, NOSNIFF
from purveyor.kit.errors import Problem
from purveyor.kit.web import problem_body

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
