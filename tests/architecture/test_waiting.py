"""Tests do not measure time: whether something is fast enough is for ``scripts/bench`` and the drill to say.

A test waits for a condition, with the one deadline of ``waiting.py``.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent.parent
_ELSEWHERE = ("containers", "faults")
"""Folders that ``scripts/test`` does not run."""
_STOPWATCHES = {"monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns", "process_time", "thread_time"}
_WAITS = {"asyncio.timeout": 0, "asyncio.wait_for": 1}
"""And the place of their deadline."""
FILES = [
    path
    for path in sorted(TESTS.rglob("*.py"))
    if path.name != "waiting.py" and path.relative_to(TESTS).parts[0] not in _ELSEWHERE
]


def measures(source: str) -> list[str]:
    """Where a stopwatch is read, two moments are compared, or a wait has a deadline of its own."""
    return [f"line {node.lineno}: {what}" for node, what in _found(ast.parse(source))]


def _found(tree: ast.AST) -> Iterator[tuple[ast.expr, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            if called.rpartition(".")[2] in _STOPWATCHES or called == "asyncio.get_running_loop().time":
                yield node, f"reads {called}()"
            if (place := _WAITS.get(called)) is not None and _is_number(node.args[place:]):
                yield node, f"gives {called} a deadline of its own"
        elif isinstance(node, ast.Compare) and any(map(_is_elapsed, ast.walk(node))):
            yield node, "compares elapsed time"


def _is_number(arguments: list[ast.expr]) -> bool:
    return bool(arguments) and isinstance(arguments[0], ast.Constant) and bool(arguments[0].value)


def _is_elapsed(node: ast.AST) -> bool:
    """``time.time() - began``, or the other way around."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub)):
        return False
    return any(ast.unparse(side) == "time.time()" for side in (node.left, node.right))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(TESTS)))
def test_no_test_measures_time(path: Path) -> None:
    assert measures(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "began = time.monotonic()",
        "assert perf_counter() < ends",
        "assert asyncio.get_running_loop().time() < deadline",
        "assert time.time() - began < 2",
        "asyncio.timeout(0.5)",
        "await asyncio.wait_for(answer, 1)",
    ],
)
def test_every_way_to_measure_time_is_found(source: str) -> None:
    assert len(measures(source)) == 1


@pytest.mark.parametrize("source", ["asyncio.timeout(PATIENCE_S)", "asyncio.timeout(None)", "now = time.time()"])
def test_waiting_and_dates_are_no_measurement(source: str) -> None:
    assert measures(source) == []
