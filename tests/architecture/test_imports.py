"""A process pays only for what it runs: the command line starts without the servers' libraries."""

import subprocess
import sys

import pytest

HEAVY = [
    "aio_pika",
    "aiosmtplib",
    "argon2",
    "asyncpg",
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
