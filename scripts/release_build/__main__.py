"""Builds one file that runs Purveyor, and beside it the wheel, the SBOM and the checksums."""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from release_build import archive, sbom
from release_build import tree as trees
from release_build.tree import CannotBuild, run

ROOT = Path(__file__).resolve().parents[2]
_MISSING_TOOL = 69
"""EX_UNAVAILABLE of sysexits.h."""
_OLDEST_EPOCH = 315532800
"""1980-01-01, the first time that a zip file can hold."""


def main() -> int:
    """Build into ``--output`` and print what was made."""
    options = _options()
    if shutil.which("strip") is None:
        print("release: strip is not installed. On Debian and Ubuntu: apt-get install binutils", file=sys.stderr)
        return _MISSING_TOOL
    os.environ.setdefault("SOURCE_DATE_EPOCH", str(_commit_time()))
    try:
        with tempfile.TemporaryDirectory(prefix="purveyor-release-") as scratch:
            made = build(Path(scratch), options.python, options.output)
    except CannotBuild as problem:
        print(f"release: {problem}", file=sys.stderr)
        return 1
    for file in made:
        print(f"{file.stat().st_size / 1e6:7.1f} MB  {file}")
    return 0


def build(scratch: Path, python: Path, output: Path) -> list[Path]:
    """Build everything and give the files in the order of ``SHA256SUMS``, which is the last."""
    wheel = build_wheel(scratch / "wheel")
    version = wheel.name.split("-")[1]
    tree, wheels = scratch / "tree", scratch / "wheels"
    _say(f"Python {trees.python_version(python)} from {python}")
    trees.download(python, ROOT / "requirements.lock", wheels)
    trees.build(tree, python, wheel, wheels)
    _say(f"needs glibc {trees.glibc_floor(tree)} or newer")

    output.mkdir(parents=True, exist_ok=True)
    program = output / f"purveyor-{version}-linux-{platform.machine()}"
    payload = scratch / "payload.tar.gz"
    archive.pack(tree, payload, int(os.environ["SOURCE_DATE_EPOCH"]))
    archive.join(payload, program, version, _megabytes(tree))
    bill = output / f"{program.name}.cdx.json"
    text = sbom.of(tree, ROOT / "pyproject.toml")
    sbom.require_valid(text)
    bill.write_text(text, encoding="utf-8")
    files = [program, bill, Path(shutil.copy(wheel, output))]
    sums = output / "SHA256SUMS"
    sums.write_text("".join(f"{archive.sha256(file)}  {file.name}\n" for file in files), encoding="utf-8")
    return [*files, sums]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/release", add_help=False)
    parser.add_argument("--output", type=Path, default=ROOT / "dist")
    parser.add_argument("--python", type=Path, default=Path(sys.executable))
    return parser.parse_args()


def build_wheel(folder: Path) -> Path:
    """Build the wheel of this checkout into an empty folder."""
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, folder=ROOT)
    (wheel,) = folder.iterdir()
    return wheel


def _commit_time() -> int:
    found = subprocess.run(
        ["git", "-C", ROOT, "log", "-1", "--format=%ct"], capture_output=True, text=True, check=False
    )
    return int(found.stdout.strip() or _OLDEST_EPOCH)


def _megabytes(folder: Path) -> int:
    return -(-sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) // 1_000_000)


def _say(text: str) -> None:
    print(f"release: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
