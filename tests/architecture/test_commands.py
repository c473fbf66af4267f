"""Every test has a command that runs it: ``scripts/test`` or one of those named here."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_ELSEWHERE = {
    "tests/clients": "scripts/test-clients",
    "tests/containers": "scripts/test-containers",
    "tests/faults": "scripts/drill",
    "tests/onefile": "scripts/test-release",
}


def test_no_folder_of_tests_is_forgotten() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    run = settings["tool"]["pytest"]["ini_options"]["testpaths"]
    there = [path for path in (ROOT / "tests").iterdir() if path.name.startswith("test_") and path.suffix == ".py"]
    there += [path for path in (ROOT / "tests").iterdir() if path.is_dir() and any(path.rglob("test_*.py"))]

    assert set(run) == {path.relative_to(ROOT).as_posix() for path in there} - set(_ELSEWHERE)


def test_the_other_commands_run_the_rest() -> None:
    for folder, script in _ELSEWHERE.items():
        assert folder.rpartition("/")[2] in (ROOT / script).read_text(encoding="utf-8")
