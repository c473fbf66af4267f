"""Packages that are installed for a test: beside Purveyor, in a folder that only ``PYTHONPATH`` names."""

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "examples" / "purveyor-role-template"
_BUILD = "import sys; from hatchling.build import build_wheel; build_wheel(sys.argv[1])"


def install(project: Path, target: Path) -> None:
    """Build the project's wheel with its own build backend and unpack it, without any network."""
    wheels = target.with_name(f"{target.name}-wheels")
    subprocess.run([sys.executable, "-c", _BUILD, str(wheels)], cwd=project, capture_output=True, check=True)
    for wheel in wheels.glob("*.whl"):
        zipfile.ZipFile(wheel).extractall(target)


def write_package(target: Path, name: str, module: str, *points: str) -> None:
    """Install a package of one module, whose name is that of the package; ``points`` are lines of entry points."""
    info = target / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("\n".join(points))
    (target / f"{name}.py").write_text(module)


def environment(target: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that finds the packages in a folder, and knows no other settings."""
    return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "PYTHONPATH": str(target), **settings}
