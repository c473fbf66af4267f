"""Schemathesis reads the API document and tries every operation: as it says, and against what it says."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from own_processes import environment, own_processes
from server_shapes import PATIENT

PASSWORD = "a long enough password"
SEED = 20261122
EXAMPLES = 10
TIMEOUT_S = 900.0

ENDS_THE_ACCOUNT = ("log_out", "change_password", "reset_password", "erase_person")
"""What runs alone, each with an account of its own: after it others could only be told to sign in."""
ENDLESS = "follow_order"
"""A stream that does not end by itself."""


@dataclass(frozen=True)
class Server:
    """The real command line with every role, on its embedded default."""

    url: str
    settings: dict[str, str]

    async def token(self, name: str, access: str = "customer") -> str:
        """The access token of a new account."""
        email = f"{name}@example.com"
        async with httpx.AsyncClient(base_url=self.url) as client:
            body = {"email": email, "password": PASSWORD, "name": name.title()}
            (await client.post("/register", json=body)).raise_for_status()
            if access != "customer":
                await run(sys.executable, "-m", "purveyor", "user", "role", email, access, settings=self.settings)
            answer = await client.post("/login", json={"email": email, "password": PASSWORD})
        return str(answer.raise_for_status().json()["access_token"])

    async def examine(self, folder: Path, token: str, *chosen: str) -> None:
        """Run schemathesis as the holder of a token; fails with its report when it finds anything."""
        options = ["--checks", "all", "--mode", "all", "-n", str(EXAMPLES), "--seed", str(SEED), *chosen]
        await run(
            *(sys.executable, "-m", "schemathesis.cli"),
            *("--config-file", str(Path(__file__).with_name("schemathesis.toml")), "--no-color"),
            *("run", f"{self.url}/openapi.json", "-H", f"Authorization: Bearer {token}", *options),
            settings={"HOME": str(folder), "SCHEMATHESIS_HOOKS": str(Path(__file__).with_name("link_bodies.py"))},
            folder=folder,
        )


async def run(*command: str, settings: dict[str, str], folder: Path | None = None) -> str:
    """Run a command to its end and return what it said; fails with that unless it went well."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment(settings),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = said.decode(errors="replace")
    assert process.returncode == 0, text
    return text


@pytest_asyncio.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Server]:
    folder = tmp_path_factory.mktemp("openapi")
    limits = dict.fromkeys(("RATE_LIMIT_ORDERS", "RATE_LIMIT_LOGIN", "RATE_LIMIT_REGISTER"), "100000/second")
    async with own_processes(folder, **limits, **PATIENT) as processes:
        processes.start("shop", "serve", "auth,orders,email,catalog,shop")
        await processes.ready("shop")
        yield Server(f"http://127.0.0.1:{processes.ports['shop']}", dict(processes.settings))


async def test_nothing_is_found(server: Server, tmp_path: Path) -> None:
    left_out = [f"--exclude-operation-id={name}" for name in (*ENDS_THE_ACCOUNT, ENDLESS)]
    folders = [tmp_path / "customer", tmp_path / "staff"]
    for folder in folders:
        folder.mkdir()
    customer, staff = await server.token("ada"), await server.token("grace", "staff")

    await asyncio.gather(
        server.examine(folders[0], customer, *left_out),
        server.examine(folders[1], staff, *left_out),
    )


@pytest.mark.parametrize("operation", ENDS_THE_ACCOUNT)
async def test_nothing_is_found_where_an_account_or_its_session_ends(
    server: Server, tmp_path: Path, operation: str
) -> None:
    token = await server.token(operation.replace("_", "-"))
    beside = ["--include-operation-id=verify_token"] if operation == "erase_person" else []  # it tells the id

    await server.examine(
        tmp_path, token, f"--include-operation-id={operation}", *beside, "--phases=examples,coverage,fuzzing"
    )


async def test_the_stream_answers_errors_as_documented(server: Server) -> None:
    path = "/api/orders/01a20481-297c-700c-a82d-3d9ac6bc1ffd/live"
    headers = {"Authorization": f"Bearer {await server.token('follower')}"}
    async with httpx.AsyncClient(base_url=server.url) as client:
        document = (await client.get("/openapi.json")).json()
        documented = document["paths"]["/api/orders/{order_id}/live"]["get"]["responses"]
        unknown, unsigned = await client.get(path, headers=headers), await client.get(path)

    assert (unknown.status_code, unsigned.status_code) == (404, 401)
    for answer in (unknown, unsigned):
        said = documented[str(answer.status_code)]["content"]
        assert answer.headers["content-type"] in said
        assert answer.json()["type"].removeprefix("/problems/") in said["application/problem+json"]["examples"]
