"""A process pays only for what it runs: the command line starts without the servers' libraries."""

import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

HEAVY = [
    "aio_pika",
    "aiosmtplib",
    "argon2",
    "asyncpg",
    "babel",
    "faststream",
    "httpx",
    "jinja2",
    "jwt",
    "litestar",
    "motor",
    "prometheus_client",
    "pymongo",
    "redis",
    "uvicorn",
]


def imported(statement: str) -> set[str]:
    """The packages that are loaded after a statement, in a fresh interpreter."""
    script = f"import sys\n{statement}\nprint(*(name for name in sys.modules if '.' not in name))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("statement", ["import purveyor.cli", "import purveyor.registry"])
def test_declarations_and_command_line_are_light(statement: str) -> None:
    assert imported(statement) & set(HEAVY) == set()


def test_the_names_above_are_those_of_packages() -> None:
    """A heavy module that is imported is found under its name."""
    assert set(HEAVY) - imported(";".join(f"import {name}" for name in HEAVY)) == set()


def test_importing_starts_nothing() -> None:
    """No thread, no event loop, no connection by the import of the composition root."""
    script = (
        "import threading, asyncio, socket\n"
        "socket.socket.connect = None\n"
        "import purveyor.host, purveyor.process\n"
        "assert threading.active_count() == 1, threading.enumerate()\n"
        "assert asyncio._get_running_loop() is None"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def imports() -> dict[str, set[str]]:
    """Every module with the modules that it imports anywhere, inside functions and for types too."""
    graph = grimp.build_graph("purveyor", "purveyor_drill", cache_dir=None)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def cycle(graph: dict[str, set[str]]) -> list[str]:
    """One import cycle, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_by_way_of_others() -> None:
    assert cycle(imports()) == []


def test_a_cycle_is_found() -> None:
    assert set(cycle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}
