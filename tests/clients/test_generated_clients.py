"""Generated clients register, log in, order, replay and read a typed problem. Run by scripts/test-clients."""

import re
import shutil
from pathlib import Path
from typing import Any

from tools import HERE, Tools

DRIVERS = HERE / "drivers"


def check(told: dict[str, Any], email: str) -> None:
    """What every driver tells: typed values of the answers."""
    assert told["registered"] == email
    assert told["total"] > 0
    assert (told["replayed"], told["same_order"]) == ("true", True)
    problem = told["problem"]
    assert (problem["status"], problem["type"]) == (422, "/problems/unknown-product")
    assert problem["pointers"] == ["/items/0/product_id"]


async def test_openapi_python_client(tools: Tools, openapi: Path, url: str) -> None:
    said = tools.run(
        "openapi-python-client", "generate", "--path", openapi, "--output-path", "shop", "--meta", "none"
    )
    assert "warning" not in said.lower(), said
    shutil.copy(DRIVERS / "python_client.py", tools.folder)

    check(tools.drive("python", "python_client.py", url), "python@example.com")


async def test_openapi_generator_for_python(tools: Tools, openapi: Path, url: str) -> None:
    generate(tools, openapi, "python", "--package-name", "shop")
    shutil.copy(DRIVERS / "generator_client.py", tools.folder / "client")

    check(tools.drive("python", "client/generator_client.py", url), "generator@example.com")


async def test_openapi_generator_for_typescript(tools: Tools, openapi: Path, url: str) -> None:
    generate(tools, openapi, "typescript-fetch")

    check(compile_and_drive(tools, "fetch_client.ts", url), "fetch@example.com")


async def test_openapi_ts(tools: Tools, openapi: Path, url: str) -> None:
    said = tools.run("openapi-ts", "--input", openapi, "--output", "client")
    assert not re.search(r"\b(warn|error)", said, re.IGNORECASE), said

    check(compile_and_drive(tools, "openapi_ts_client.ts", url), "ts@example.com")


def generate(tools: Tools, openapi: Path, language: str, *options: str) -> None:
    """Run openapi-generator, which validates the document first."""
    said = tools.run("openapi-generator-cli", "generate", "-i", openapi, "-g", language, "-o", "client", *options)
    assert not re.search(r"\bERROR\b|Exception", said), said


def compile_and_drive(tools: Tools, driver: str, url: str) -> dict[str, Any]:
    """Compile a generated client and its driver under ``strict``, and run it on Node.js."""
    shutil.copy(DRIVERS / driver, tools.folder)
    strict = ("--strict", "--target", "es2022", "--module", "commonjs", "--lib", "es2022,dom,dom.iterable")
    tools.run("tsc", *strict, "--outDir", "out", driver)
    return tools.drive("node", f"out/{driver.removesuffix('.ts')}.js", url)
