"""Logging: whatever a client sent, a record stays one line that a machine can read, with its request id."""

import json
import logging
import os
import pty
import re
import subprocess
import sys
from typing import Any
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from purveyor.kit import log, tracing
from purveyor.kit.log import ConsoleFormatter, JsonFormatter
from waiting import PATIENCE_S

HOSTILE = [
    "a\r\nINFO forged",
    "a\nb",
    "a\rb",
    "a\x0bb\x0cc\x1cd\x1de\x1ef",
    "\x1b[2J\x1b[31mred",
    "\x9b31m",
    "a\x85b",
    "a\u2028b\u2029c",
    "a\u202eb",
    "a\x00b\x7fc",
    "a\ud800b",
    '{"event": "forged"}',
    'a" status=200 b="',
    "a\\nb",
]
any_text = st.text(st.characters(exclude_categories=[]) | st.sampled_from("\r\n\x1b\x85\u2028\ud800"))


def record(message: str = "event", *args: object, **extra: object) -> logging.LogRecord:
    made = logging.LogRecord("purveyor.test", logging.INFO, __file__, 1, message, args, None)
    vars(made).update(extra)
    return made


def failure(error: Exception) -> Any:
    return (type(error), error, None)


def controls(text: str) -> list[str]:
    """What would move a cursor or end a line."""
    return re.findall(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]", text)


@pytest.mark.parametrize("text", HOSTILE)
def test_json_is_one_line_whatever_the_text(text: str) -> None:
    made = record("seen %s", text, path=text)
    made.exc_info = failure(ValueError(text))

    line = JsonFormatter().format(made)

    assert controls(line) == []
    assert len(line.splitlines()) == 1
    entry = json.loads(line)
    assert entry["exception"]
    if "\ud800" not in text:
        assert entry["event"] == f"seen {text}"
        assert entry["path"] == text


@given(any_text, any_text)
@example("\ud800", "\udfff")
def test_any_text_is_one_line_in_either_style(message: str, field: str) -> None:
    made = record("%s", message, field=field)
    for line in (JsonFormatter().format(made), ConsoleFormatter(color=False).format(made)):
        assert controls(line) == []
        assert len(line.splitlines()) == 1


def test_what_an_error_came_of_is_a_line() -> None:
    assert log.cause_of(ValueError("alone")) == {}
    try:
        try:
            raise ConnectionResetError
        except OSError as gone:
            raise TimeoutError("no answer") from gone
    except TimeoutError as late:
        error = ValueError("away")
        error.__cause__ = late
    assert log.cause_of(error) == {"cause": "TimeoutError: no answer < ConnectionResetError"}


def test_an_error_that_came_of_itself_ends() -> None:
    error = ValueError("away")
    error.__cause__ = error
    assert log.cause_of(error) == {"cause": "ValueError: away"}


def test_json_has_the_standard_fields_and_the_extras() -> None:
    entry = json.loads(JsonFormatter().format(record("hello %s", "you", order=7, tags=["a"])))

    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", entry.pop("time"))
    assert entry == {"level": "info", "logger": "purveyor.test", "event": "hello you", "order": 7, "tags": ["a"]}


@pytest.mark.parametrize(
    "value",
    [
        object(),
        {1, 2},
        {UUID(int=1): 1},
        {(1, 2): 3},
        float("nan"),
        b"\xff",
        ValueError("x"),
        {"a": {1: object()}},
    ],
)
def test_an_extra_of_any_type_does_not_lose_the_record(value: object) -> None:
    entry = json.loads(JsonFormatter().format(record("kept", value=value)))

    assert entry["event"] == "kept"
    assert "value" in entry


def test_the_request_id_is_on_every_line() -> None:
    token = log.request_id.set("r-1")
    try:
        lines = JsonFormatter().format(record()), ConsoleFormatter(color=False).format(record())
    finally:
        log.request_id.reset(token)

    assert json.loads(lines[0])["request_id"] == "r-1"
    assert "request_id=r-1" in lines[1]
    assert "request_id" not in JsonFormatter().format(record())
    assert "request_id" not in ConsoleFormatter(color=False).format(record())


def test_trace_id_is_on_every_json_line() -> None:
    token = tracing.traceparent.set("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
    try:
        line = JsonFormatter().format(record())
    finally:
        tracing.traceparent.reset(token)

    assert json.loads(line)["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert "trace_id" not in JsonFormatter().format(record())


def test_the_console_line() -> None:
    line = ConsoleFormatter(color=False).format(record("hello %s", "you", order=7, customer="Jane Doe"))

    assert re.fullmatch(r'\d\d:\d\d:\d\d\.\d{3} info    hello you  order=7 customer="Jane Doe"', line)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_console_shows_no_control_character_of_a_client(text: str) -> None:
    line = ConsoleFormatter(color=False).format(record("seen %s", text, path=text))

    assert controls(line) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_a_traceback_on_the_console_moves_no_cursor(text: str) -> None:
    made = record("died")
    made.exc_info = failure(ValueError(text))
    first, *rest = ConsoleFormatter(color=False).format(made).split("\n")

    assert first.endswith("died")
    assert rest
    assert controls("".join(rest)) == []


def test_colors_only_where_they_are_wanted() -> None:
    assert "\x1b[36minfo   \x1b[0m" in ConsoleFormatter(color=True).format(record())
    assert "\x1b" not in ConsoleFormatter(color=False).format(record())


PROGRAM = """
import logging, sys
from purveyor.kit import log
log.configure(sys.argv[1], sys.argv[2])
logging.getLogger("purveyor.test").info("shown", extra={"order": 7})
logging.getLogger("purveyor.test").debug("detail")
logging.getLogger("httpx").info("noise")
logging.getLogger("httpx").warning("worth it")
"""


def logged(style: str, level: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, style, level],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout == "", "stdout belongs to the commands"
    return done.stderr.splitlines()


def test_without_a_terminal_it_is_json_on_stderr() -> None:
    entries = [json.loads(line) for line in logged("", "info")]

    assert [entry["event"] for entry in entries] == ["shown", "worth it"]


def test_the_style_and_the_level_can_be_chosen() -> None:
    lines = logged("console", "DEBUG")

    assert [line.split()[2] for line in lines] == ["shown", "detail", "worth"]
    assert "\x1b" not in "".join(lines)


def test_on_a_terminal_it_is_for_the_eye() -> None:
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", PROGRAM, "", "info"], stderr=theirs, check=True, timeout=PATIENCE_S)
    os.close(theirs)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)

    assert "\x1b[36minfo   \x1b[0m shown  order=7" in shown
