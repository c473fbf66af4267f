"""The wheel holds all that the product needs: code, migrations, templates, pictures and the catalog."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from release_build.__main__ import ROOT, build_wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    with zipfile.ZipFile(build_wheel(tmp_path_factory.mktemp("wheel"))) as opened:
        yield opened


def sources() -> set[str]:
    files = (path for package in ("purveyor", "purveyor_drill") for path in (ROOT / "src" / package).rglob("*"))
    return {
        path.relative_to(ROOT / "src").as_posix()
        for path in files
        if path.is_file() and "__pycache__" not in path.parts
    }


def test_wheel_holds_every_file_of_the_source_and_no_other(wheel: zipfile.ZipFile) -> None:
    inside = {name for name in wheel.namelist() if ".dist-info/" not in name}

    assert inside == sources()
    assert {Path(name).suffix for name in inside} >= {
        ".py",
        ".sql",
        ".html",
        ".css",
        ".js",
        ".json",
        ".svg",
        ".txt",
    }


def test_wheel_has_the_command_and_the_license(wheel: zipfile.ZipFile) -> None:
    (info,) = {name.split("/")[0] for name in wheel.namelist() if ".dist-info/" in name}

    assert "app = purveyor.__main__:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
