"""The gateway: whom it asks, what it tells the roles about a client, and what it keeps away from them."""

import asyncio
import re
from collections.abc import AsyncIterator

import httpx
import msgspec
import pytest

import waiting
from gateway.proxy import LOGINS, PATIENCE_S, Gateway

PASSWORD = "correct horse"
BROKEN_HEADER = b"POST /login HTTP/1.1\r\nHost: shop\r\nX-Slow: "
BROKEN_BODY = (
    b"POST /login HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"
)
SMUGGLED = b"GET /health/ready HTTP/1.1\r\nHost: shop\r\n\r\n"


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, object]:
    """The problem document (RFC 9457) of an answer that must be this one."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, object] = answer.json()
    assert body["status"] == status
    assert body["type"] == f"/problems/{code}"
    assert body["request_id"] == answer.headers["x-request-id"]
    assert {"title", "detail", "instance"} <= body.keys()
    return body


async def signed_in(client: httpx.AsyncClient, email: str) -> dict[str, str]:
    """Register a customer and log in; the header that says who it is."""
    account = {"email": email, "password": PASSWORD, "name": "Ada Lovelace"}
    assert (await client.post("/register", json=account)).status_code == 201
    answer = await client.post("/login", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def exchange(port: int, data: bytes) -> bytes:
    """Send raw bytes, and read until nothing comes any more or the gateway closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = b""
    try:
        writer.write(data)
        while part := await asyncio.wait_for(
            reader.read(65_536), PATIENCE_S + 2.0 if answer else waiting.PATIENCE_S
        ):
            answer += part
    except (TimeoutError, ConnectionResetError):
        pass  # an open connection without a second answer, or one that was cut, is what is asked for
    finally:
        writer.close()
    return answer


async def answer_when_cut(port: int, opening: bytes, *, drip: bytes = b"") -> bytes:
    """What the gateway says as it cuts a client that sends ``drip`` ten times a second after its opening."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    closed = asyncio.ensure_future(reader.read())
    try:
        writer.write(opening)
        async with asyncio.timeout(waiting.PATIENCE_S):
            while not closed.done():
                writer.write(drip)
                await asyncio.wait({closed}, timeout=0.1)
    finally:
        closed.cancel()
        await asyncio.wait({closed})
        writer.close()
    return b"" if closed.cancelled() or closed.exception() else closed.result()


async def test_an_order_passes_through_all_roles(gateway: Gateway) -> None:
    async with gateway.client("127.0.0.10") as client:
        bearer = await signed_in(client, "order@example.com")
        order = {"items": [{"product_id": 1, "quantity": 2}]}
        placed = await client.post("/api/orders/", json=order, headers=bearer)
        assert placed.status_code == 201
        read = await client.get(placed.headers["location"], headers=bearer)
        assert read.json() == placed.json()
        listed = await client.get("/catalog/products/1")
        assert listed.json()["product"]["price"] == placed.json()["items"][0]["price"]


async def test_an_order_is_changed_with_the_tag_that_compression_weakened(gateway: Gateway) -> None:
    async with gateway.client("127.0.0.11") as client:
        bearer = await signed_in(client, "weak@example.com")
        order = {"items": [{"product_id": 1, "quantity": 2}], "note": "ring twice " * 20}
        placed = await client.post("/api/orders/", json=order, headers=bearer)
        path = placed.headers["location"]
        read = await client.get(path, headers=bearer)
        assert read.headers["content-encoding"] == "gzip"
        assert read.headers["etag"] == 'W/"1"'
        fresh = await client.get(path, headers=bearer | {"If-None-Match": read.headers["etag"]})
        assert fresh.status_code == 304
        stale = await client.post(f"{path}/cancel", json={}, headers=bearer | {"If-Match": 'W/"2"'})
        problem(stale, 412, "precondition-failed")
        cancelled = await client.post(f"{path}/cancel", json={}, headers=bearer | {"If-Match": 'W/"1"'})
        assert cancelled.status_code == 200


async def test_a_stream_is_opened_by_ticket_and_not_compressed(gateway: Gateway) -> None:
    async with gateway.client("127.0.0.12") as client:
        bearer = await signed_in(client, "ticket@example.com")
        order = {"items": [{"product_id": 1, "quantity": 1}]}
        path = (await client.post("/api/orders/", json=order, headers=bearer)).headers["location"]
        ticket = (await client.post(f"{path}/live-ticket", headers=bearer)).json()["ticket"]
        async with client.stream("GET", f"{path}/live?ticket={ticket}") as answer:
            assert answer.status_code == 200
            assert "content-encoding" not in answer.headers
            assert "event: placed" in [line async for line in _until(answer, "event: placed")]


async def _until(answer: httpx.Response, last: str) -> AsyncIterator[str]:
    """The lines of a stream up to this one."""
    async with asyncio.timeout(waiting.PATIENCE_S):
        async for line in answer.aiter_lines():
            yield line
            if line == last:
                return


@pytest.mark.parametrize(
    "path", ["/", "/static/shop/app.js", "/docs", "/openapi.json", "/problems/body-too-large", "/health/ready"]
)
async def test_pages_are_served(gateway: Gateway, path: str) -> None:
    async with gateway.client() as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize("path", ["/metrics", "/metrics/", "//metrics", "/%6Detrics", "/docs/../metrics"])
async def test_metrics_are_not_public(gateway: Gateway, path: str) -> None:
    answer = await exchange(
        gateway.port, f"GET {path} HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 404")


@pytest.mark.parametrize("role", ["auth", "orders", "catalog"])
async def test_every_route_reaches_its_role(gateway: Gateway, role: str) -> None:
    async with gateway.client() as public, httpx.AsyncClient() as direct:
        own = f"http://127.0.0.1:{gateway.processes.ports[role]}"
        document = (await direct.get(f"{own}/openapi.json")).json()
        paths = [re.sub(r"{\w+}", "1", path) for path in document["paths"]]
        elsewhere = [
            path
            for path in paths
            if not path.startswith(("/health/", "/metrics"))
            and (await public.options(path)).headers.get("allow")
            != (await direct.options(own + path)).headers["allow"]
        ]
    assert paths
    assert elsewhere == []


async def test_a_request_id_is_passed_on_or_made(gateway: Gateway) -> None:
    async with gateway.client() as client:
        passed = await client.get("/health/ready", headers={"X-Request-ID": "till-7/42"})
        assert passed.headers.get_list("x-request-id") == ["till-7/42"]
        made = await client.get("/health/ready", headers={"X-Request-ID": 'bad "id"'})
        assert len(made.headers["x-request-id"]) == 32


async def test_a_forged_address_does_not_fool_the_login_limit(gateway: Gateway) -> None:
    async def log_in(client: httpx.AsyncClient, forged: dict[str, str], number: int) -> int:
        account = {"email": f"nobody-{number}@example.com", "password": PASSWORD}
        return (await client.post("/login", json=account, headers=forged)).status_code

    async with gateway.client("127.0.0.2") as client:
        forgeries = [
            {"X-Forwarded-For": f"203.0.113.{number}", "X-Real-IP": "203.0.113.1", "Forwarded": "for=203.0.113.1"}
            for number in range(LOGINS + 1)
        ]
        statuses = [await log_in(client, forged, number) for number, forged in enumerate(forgeries)]
    assert statuses == [401] * LOGINS + [429]
    async with gateway.client("127.0.0.3") as neighbour:
        assert await log_in(neighbour, {"X-Forwarded-For": "127.0.0.2"}, 99) == 401


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_over_64_kib_is_refused(gateway: Gateway, *, chunked: bool) -> None:
    body = b" " * 65 * 1024

    async def chunks() -> AsyncIterator[bytes]:
        yield body

    async with gateway.client() as client:
        answer = await client.post('/login?"', content=chunks() if chunked else body)
    assert problem(answer, 413, "body-too-large")["instance"] == "/login"


async def test_what_is_not_http_is_refused(gateway: Gateway) -> None:
    answer = await exchange(gateway.port, b"GET /docs HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert b"application/problem+json" in head
    assert msgspec.json.decode(body)["type"] == "/problems/bad-request"


@pytest.mark.parametrize(("opening", "drip"), [(BROKEN_HEADER, b"a"), (BROKEN_BODY, b"")], ids=["header", "body"])
async def test_slow_clients_are_cut_and_disturb_nobody(gateway: Gateway, opening: bytes, drip: bytes) -> None:
    slow = [asyncio.ensure_future(answer_when_cut(gateway.port, opening, drip=drip)) for _ in range(200)]
    async with gateway.client() as client:
        await asyncio.sleep(0.2)
        for _ in range(5):
            answer = await client.get("/api/products")
            assert answer.status_code == 200
    answers = {said.partition(b"\r\n")[0] for said in await asyncio.gather(*slow)}
    assert answers <= {b"", b"HTTP/1.1 408 Request Time-out"}, "cut for being slow, and for nothing else"


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(
            b"Content-Length: %d\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" % (5 + len(SMUGGLED)) + SMUGGLED,
            id="CL.TE",
        ),
        pytest.param(
            b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n%x\r\n" % len(SMUGGLED)
            + SMUGGLED
            + b"\r\n0\r\n\r\n",
            id="TE.CL",
        ),
        pytest.param(
            b"Content-Length: %d\nTransfer-Encoding: chunked\n\r\n0\r\n\r\n" % (5 + len(SMUGGLED)) + SMUGGLED,
            id="bare LF between fields",
        ),
        pytest.param(
            b"Transfer-Encoding: xchunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
            id="TE.TE",
        ),
        pytest.param(
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
            b"2;\nxx\r\n%x\r\n0\r\n\r\n" % (5 + len(SMUGGLED)) + SMUGGLED + b"\r\n0\r\n\r\n",
            id="bare LF in a chunk extension",
        ),
        pytest.param(b"Content-Length: 0\r\nContent-Length: 43\r\n\r\n" + SMUGGLED, id="CL.CL"),
        pytest.param(b"Transfer-Encoding: chunked\r\n\r\n-1\r\n" + SMUGGLED, id="bad chunk size"),
    ],
)
async def test_no_request_is_smuggled(gateway: Gateway, attack: bytes) -> None:
    head = b"POST /login HTTP/1.1\r\nHost: shop\r\nContent-Type: application/json\r\n"
    answer = await exchange(gateway.port, head + attack)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 4")
    # Nor does it wait on a connection to a role, as the answer to somebody else.
    async with gateway.client() as client:
        for _ in range(5):
            assert (await client.post("/verify-token", json={})).status_code in (401, 422)


async def test_a_role_that_is_down_is_unavailable_until_it_is_back(gateway: Gateway) -> None:
    async with gateway.client() as client:
        await gateway.processes.crash("catalog")
        try:
            answer = await client.get("/catalog/products/1")
            assert problem(answer, 503, "unavailable")["instance"] == "/catalog/products/1"
            assert int(answer.headers["retry-after"]) > 0
            assert (await client.get("/health/live")).status_code == 200
        finally:
            gateway.processes.start("catalog", "serve", "catalog")
            await gateway.processes.ready("catalog")
        assert (await client.get("/catalog/products/1")).status_code == 200
