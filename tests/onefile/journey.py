"""The way of a customer through a running shop, to the email about the order."""

import secrets
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from purveyor_drill.servers.process import talk
from waiting import PATIENCE_S, wait_until


@contextmanager
def running(command: Sequence[str | Path], port: int, folder: Path, env: Mapping[str, str]) -> Iterator[int]:
    """Run a server for the block and give its pid. It must become ready, and end with 0 on SIGTERM."""
    log = folder / "server.log"
    with log.open("wb") as written:
        server = subprocess.Popen(command, env=env, cwd=folder, stdout=written, stderr=written)
    try:
        wait_until(lambda: _is_ready(port) or server.poll() is not None)
        assert server.poll() is None, log.read_text()
        yield server.pid
        server.terminate()
        assert server.wait(PATIENCE_S) == 0, log.read_text()
    finally:
        server.kill()
        server.wait()


def order_and_read_the_mail(port: int) -> None:
    """Register, log in, order, and find the email about the order in the mailbox."""
    who = {"email": f"{secrets.token_hex(4)}@example.com", "password": "correct horse"}
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, trust_env=False) as shop:
        _expect(201, shop.post("/register", json=who | {"name": "Ada Lovelace"}))
        login = _expect(200, shop.post("/login", json=who))
        headers = {"Authorization": f"Bearer {login['access_token']}"}
        order = _expect(
            201, shop.post("/api/orders/", json={"items": [{"product_id": 1, "quantity": 2}]}, headers=headers)
        )
        number = str(order["order_number"])

        def mails() -> list[dict[str, str]]:
            return [mail for mail in shop.get("/mailbox/messages").json() if number in mail["subject"]]

        assert [mail["to"] for mail in wait_until(mails)] == [who["email"]]
        image = shop.get("/catalog/products/1").json()["product"]["image"]
        for page in ("/", "/docs", "/mailbox", image):
            assert shop.get(page).status_code == 200, page


def _expect(status: int, answer: httpx.Response) -> Any:
    assert answer.status_code == status, answer.text
    return answer.json()


def _is_ready(port: int) -> bool:
    hello = b"GET /health/ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    return talk(port, hello).startswith(b"HTTP/1.1 200")
