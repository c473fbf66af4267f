"""The code samples of /docs/samples run as they stand. Run by scripts/test-clients."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tools import Tools

from purveyor.kit.http import samples
from purveyor.kit.http.samples import Operation

Command = tuple[str, ...]


def _curl(operation: Operation, values: dict[str, str]) -> Command:
    assignments = "".join(f"{name.upper()}={value}\n" for name, value in values.items())
    return "sh", "-euc", assignments + samples.curl(operation).replace("curl ", "curl -sS ", 1)


def _python(operation: Operation, values: dict[str, str]) -> Command:
    assignments = "".join(f"{name} = {value!r}\n" for name, value in values.items())
    return "python", "-c", assignments + samples.python(operation)


def _javascript(operation: Operation, values: dict[str, str]) -> Command:
    assignments = "".join(f"const {name} = {json.dumps(value)}\n" for name, value in values.items())
    return "node", "--input-type=module", "--eval", assignments + samples.javascript(operation)


@pytest.mark.parametrize("command", [_curl, _python, _javascript], ids=lambda each: each.__name__)
async def test_samples_register_log_in_order_and_read(
    tools: Tools, openapi: Path, url: str, command: Callable[[Operation, dict[str, str]], Command]
) -> None:
    every = {operation.id: operation for operation in samples.operations(json.loads(openapi.read_text()))}
    person = {"email": f"sample{command.__name__}@example.com", "password": "a long enough password"}
    values = {"host": url}

    def call(name: str, **body: Any) -> Any:
        operation = every[name]
        if body:
            operation = msgspec.structs.replace(operation, body=operation.body | body)
        return json.loads(tools.run(*command(operation, values)))

    assert call("register", **person)["email"] == person["email"]
    values["token"] = call("log_in", **person)["access_token"]
    order = call("place_order")
    values["order_id"] = order["id"]

    assert call("get_order") == order
