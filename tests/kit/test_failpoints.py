"""Failpoints in real processes: every action, the N-th time, from a file, and who refuses to start with them."""

import select
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from own_processes import environment
from purveyor.kit import failpoints
from purveyor.kit.failpoints import VARIABLE
from purveyor_drill.servers.process import free_port
from waiting import PATIENCE_S

PASSES = """
import sys
from purveyor.kit.failpoints import FailpointReached, failpoint
for line in sys.stdin:
    try:
        failpoint(line.strip())
    except FailpointReached as reached:
        print("raised", reached, flush=True)
    else:
        print("passed", flush=True)
"""


class Passer:
    """A process that passes the points which it is told, one after the other."""

    def __init__(self, value: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PASSES],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment({VARIABLE: value} if value else {}),
            text=True,
        )

    def tell(self, name: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name}\n")
        self._process.stdin.flush()

    def answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def passes(self, name: str) -> str:
        self.tell(name)
        return self.answer()

    def is_silent(self, for_s: float = 0.5) -> bool:
        return not select.select([self._process.stdout], [], [], for_s)[0]

    def ended(self) -> int:
        return self._process.wait(PATIENCE_S)

    @property
    def runs(self) -> bool:
        return self._process.poll() is None

    def __enter__(self) -> "Passer":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def test_without_the_variable_a_point_is_nothing() -> None:
    with Passer("") as process:
        assert process.passes("relay.locked") == "passed"


def test_kill_is_sigkill() -> None:
    with Passer("relay.locked=kill") as process:
        assert process.passes("relay.marked") == "passed"
        process.tell("relay.locked")
        assert process.ended() == -signal.SIGKILL


def test_raise_raises_each_time() -> None:
    with Passer("a.b=raise; c.d=raise") as process:
        assert [process.passes(name) for name in ("a.b", "c.d", "a.b")] == [
            "raised a.b",
            "raised c.d",
            "raised a.b",
        ]


def test_delay_waits_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(failpoints, "time", SimpleNamespace(sleep=waits.append))
    points = failpoints.Failpoints("a.b=delay:0.5")
    for name in ("other", "a.b"):
        points.hit(name)
    assert waits == [0.5]


def test_hang_stays() -> None:
    with Passer("a.b=hang") as process:
        assert process.passes("other") == "passed"
        process.tell("a.b")
        assert process.is_silent()
        assert process.runs


def test_only_the_nth_time() -> None:
    with Passer("a.b=raise@2") as process:
        assert [process.passes("a.b") for _ in range(3)] == ["passed", "raised a.b", "passed"]


def test_a_file_is_read_again_at_every_point(tmp_path: Path) -> None:
    file, draft = tmp_path / "points", tmp_path / "draft"

    def arm(text: str) -> None:
        draft.write_text(text)
        draft.rename(file)

    with Passer(str(file)) as process:
        assert process.passes("a.b") == "passed"  # there is no file yet
        arm("a.b=raise@2")
        assert [process.passes("a.b") for _ in range(3)] == ["passed", "raised a.b", "passed"]
        arm("")
        assert process.passes("a.b") == "passed"
        arm("a.b=raise@2")  # counts anew
        assert [process.passes("a.b") for _ in range(2)] == ["passed", "raised a.b"]
        arm("a.b=kill")
        process.tell("a.b")
        assert process.ended() == -signal.SIGKILL


def serve(folder: Path, **settings: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "purveyor", "serve", "--roles", "catalog", "--port", str(free_port())],
        env=environment({"DATA_DIR": str(folder), **settings}),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    "value",
    ["kill", "a.b=explode", "a.b=delay", "a.b=delay:1.2.3", "a.b=kill@x", "A.B=kill", "a.b=kill, c.d=kill"],
)
def test_what_cannot_be_read_ends_with_one_line(tmp_path: Path, value: str) -> None:
    done = serve(tmp_path, **{VARIABLE: value})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"{VARIABLE}: {value!r} is not valid. Expected name=" in done.stderr


def test_a_file_that_cannot_be_read_ends_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "points").write_text("a.b=explode")
    done = serve(tmp_path, **{VARIABLE: str(tmp_path / "points")})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("value", ["relay.locked=kill", "/nowhere/points"])
def test_production_does_not_start_with_failpoints(tmp_path: Path, value: str) -> None:
    secret = {"JWT_SECRET": "a secret for tests that is long enough"}
    done = serve(tmp_path, ENVIRONMENT="production", **secret, **{VARIABLE: value})
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert f"{VARIABLE} is set" in done.stderr
