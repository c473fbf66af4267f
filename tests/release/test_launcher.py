"""The shell script at the head of the one file: it unpacks once, checks what it unpacks, and explains itself."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from release_build.archive import join, pack
from waiting import PATIENCE_S

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the file is for Linux")


def command(program: Path, cache: Path | str, **variables: str) -> Mapping[str, object]:
    environment = {"PATH": os.environ["PATH"], "PURVEYOR_CACHE": str(cache), **variables}
    return {"args": [program, "serve", "--port", "1 2"], "env": environment, "text": True}


def start(program: Path, cache: Path | str, **variables: str) -> subprocess.CompletedProcess[str]:
    arguments = command(program, cache, **variables)
    return subprocess.run(**arguments, capture_output=True, timeout=PATIENCE_S, check=False)  # type: ignore[call-overload,no-any-return]


def the_tree(cache: Path) -> Path:
    (tree,) = cache.iterdir()
    return tree


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    last = done.stderr.splitlines()[-1]
    assert last.startswith("purveyor: ")
    assert [word for word in words if word not in last] == []


def test_first_start_unpacks_and_later_ones_do_not(program: Path, tmp_path: Path) -> None:
    first = start(program, tmp_path / "new/cache")
    second = start(program, tmp_path / "new/cache")

    assert first.stderr == f"purveyor: Unpacking into {the_tree(tmp_path / 'new/cache')} (once).\n"
    assert second.stderr == ""
    for done in (first, second):
        assert done.returncode == 0
        assert done.stdout.startswith("arguments: -I -m purveyor serve --port 1 2;")


@pytest.mark.parametrize(
    ("variables", "cache"),
    [
        ({"HOME": "{0}"}, ".cache/purveyor"),
        ({"HOME": "{0}/home", "XDG_CACHE_HOME": "{0}/xdg"}, "xdg/purveyor"),
        ({"HOME": "{0}", "XDG_CACHE_HOME": "{0}/xdg", "PURVEYOR_CACHE": "{0}/a folder"}, "a folder"),
    ],
)
def test_cache_folder(program: Path, tmp_path: Path, variables: dict[str, str], cache: str) -> None:
    chosen = {name: value.format(tmp_path) for name, value in variables.items()}

    assert start(program, "", **chosen).returncode == 0

    assert the_tree(tmp_path / cache).name.startswith("1.2.3-")


def test_without_a_home_says_what_to_set(program: Path) -> None:
    assert_refused(start(program, ""), "HOME is not set", "PURVEYOR_CACHE")


def flip(content: bytes) -> bytes:
    return content[:-20] + bytes([content[-20] ^ 1]) + content[-19:]


@pytest.mark.parametrize("damage", [flip, lambda content: content[:-20], lambda content: content + b"x"])
def test_damaged_download_is_refused(program: Path, tmp_path: Path, damage: object) -> None:
    broken = tmp_path / "broken"
    broken.write_bytes(damage(program.read_bytes()))  # type: ignore[operator]
    broken.chmod(0o755)

    assert_refused(start(broken, tmp_path / "cache"), "damaged", str(broken))
    assert not (tmp_path / "cache").exists()


def test_cache_that_cannot_be_written_is_named(program: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = start(program, tmp_path / "file/cache")

    assert_refused(done, f"Cannot write to {tmp_path / 'file/cache'}", "PURVEYOR_CACHE")
    assert len(done.stderr.splitlines()) == 1


def test_cache_that_runs_no_programs_is_named_and_left_empty(tmp_path: Path) -> None:
    """As on a file system that is mounted with noexec."""
    (tmp_path / "tree/bin").mkdir(parents=True)
    (tmp_path / "tree/bin/python3").touch(mode=0o644)
    pack(tmp_path / "tree", tmp_path / "payload", epoch=0)
    join(tmp_path / "payload", tmp_path / "program", "1.2.3", megabytes=1)

    assert_refused(start(tmp_path / "program", tmp_path / "cache"), "Cannot run programs in", "PURVEYOR_CACHE")
    assert list((tmp_path / "cache").iterdir()) == []


def test_full_disk_is_named_and_leaves_nothing(program: Path, tmp_path: Path) -> None:
    tar = tmp_path / "bin/tar"
    tar.parent.mkdir()
    tar.write_text("#!/bin/sh\necho 'tar: No space left on device' >&2\necho 'tar: Exiting' >&2\nexit 2\n")
    tar.chmod(0o755)
    done = start(program, tmp_path / "cache", PATH=f"{tar.parent}:{os.environ['PATH']}")

    assert_refused(done, "No space left on device", "1 MB are needed")
    assert list((tmp_path / "cache").iterdir()) == []


def test_starts_at_once_share_one_tree(program: Path, tmp_path: Path) -> None:
    starts = [
        subprocess.Popen(**command(program, tmp_path / "cache"), stdout=subprocess.PIPE)  # type: ignore[call-overload]
        for _ in range(4)
    ]

    assert all(one.communicate(timeout=PATIENCE_S)[0].startswith("arguments") for one in starts)
    assert (the_tree(tmp_path / "cache") / "bin/python3").exists()


def test_start_that_is_overtaken_uses_the_tree_of_the_other(program: Path, tmp_path: Path) -> None:
    done = start(program, tmp_path / "cache", OVERTAKEN="yes")

    assert (done.returncode, done.stdout[:9]) == (0, "arguments")
    assert [path.name for path in the_tree(tmp_path / "cache").iterdir()] == ["bin"]


def test_tree_of_another_build_is_not_used(program: Path, tmp_path: Path) -> None:
    (tmp_path / "tree/bin").mkdir(parents=True)
    (tmp_path / "tree/bin/python3").write_text("#!/bin/sh\nexit 7\n")
    (tmp_path / "tree/bin/python3").chmod(0o755)
    (tmp_path / "tree").rename(tmp_path / "1.2.3-0123456789abcdef")

    assert start(program, tmp_path).returncode == 0


def test_certificates_that_the_user_chose_are_kept(program: Path, tmp_path: Path) -> None:
    done = start(program, tmp_path, SSL_CERT_FILE="/mine.pem")

    assert "certificates: /mine.pem" in done.stdout


def test_archive_depends_only_on_the_files(tmp_path: Path) -> None:
    for name, umask, moment in (("one", 0o077, 10**9), ("two", 0o002, 2 * 10**9)):
        before = os.umask(umask)
        try:
            (tmp_path / name / "bin").mkdir(parents=True)
            for file in ("b", "a") if name == "one" else ("a", "b"):
                (tmp_path / name / "bin" / file).write_text(file)
                os.utime(tmp_path / name / "bin" / file, (moment, moment))
        finally:
            os.umask(before)
        pack(tmp_path / name, tmp_path / f"{name}.tar.gz", epoch=1)

    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
