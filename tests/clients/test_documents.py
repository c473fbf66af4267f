"""Linters of API documents find nothing wrong. Run by scripts/test-clients."""

import json
from pathlib import Path

import pytest
from tools import TOOLS, Tools

_PARSE = """
import { readFileSync } from 'node:fs'
import { Parser } from '@asyncapi/parser'
const { document, diagnostics } = await new Parser().parse(readFileSync(process.argv[1], 'utf8'))
console.log(JSON.stringify({ version: document?.version(), diagnostics }))
"""


def test_redocly_finds_no_error(tools: Tools, openapi: Path) -> None:
    tools.run("redocly", "lint", "--extends", "recommended", openapi)


@pytest.mark.parametrize("kind", ["oas", "asyncapi"])
def test_spectral_finds_no_error(tools: Tools, openapi: Path, asyncapi: Path, kind: str) -> None:
    (tools.folder / ".spectral.yaml").write_text(f'extends: ["spectral:{kind}"]\n')
    tools.run("spectral", "lint", "--fail-severity", "error", openapi if kind == "oas" else asyncapi)


def test_the_asyncapi_parser_finds_nothing(asyncapi: Path) -> None:
    told = Tools(TOOLS).drive("node", "--input-type=module", "--eval", _PARSE, asyncapi)

    assert told == {"version": "3.1.0", "diagnostics": []}, json.dumps(told, indent=2)
