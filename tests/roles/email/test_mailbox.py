"""The development mailbox: pages of emails, and answers for this machine only."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from purveyor.kit.http.app import web_app
from purveyor.kit.ids import new_id
from purveyor.roles.email.mail_models import Shop
from purveyor.roles.email.mailbox import Mailbox, MailboxPages
from purveyor.roles.email.mime import compose
from purveyor.roles.email.ports import Claim
from purveyor.roles.email.rendering import Rendered, Renderer

PATHS = ["/mailbox", "/mailbox/messages", "/mailbox/previews"]


@pytest.fixture
def mailbox(tmp_path: Path) -> Mailbox:
    return Mailbox(tmp_path)


@pytest.fixture
async def client(mailbox: Mailbox) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(mailbox) as made:
        yield made


def client_of(mailbox: Mailbox, peer: str = "127.0.0.1", host: str = "localhost:8000") -> httpx.AsyncClient:
    app: Any = web_app(MailboxPages(mailbox, Renderer(Shop())).routes(), version="1", about="")
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, client=(peer, 5)), base_url="http://here", headers={"Host": host}
    )


async def deliver(mailbox: Mailbox, number: int, to: str = "ann@b.test") -> None:
    message = compose(
        message_id=f"<{number}@shop.test>",
        sender="Bücher <orders@shop.test>",
        recipient_name="Zoë",
        recipient=to,
        date=datetime(2026, 1, 2, tzinfo=UTC),
        rendered=Rendered(f"Größe {number}", f"Text {number}", f"<p>{number}</p>"),
    )
    claim = Claim(
        event_id=str(new_id()),
        kind="order.created",
        recipient=to,
        owner="1",
        attempt=1,
        message_id="",
        message=message,
        created_at=datetime.now(UTC),
    )

    async def before_dot() -> None:
        return

    await mailbox.send(claim, before_dot)


async def test_emails_come_in_pages_newest_first(mailbox: Mailbox, client: httpx.AsyncClient) -> None:
    for number in range(53):
        await deliver(mailbox, number)
    first = await client.get("/mailbox/messages")
    assert [mail["subject"] for mail in first.json()] == [f"Größe {number}" for number in range(52, 2, -1)]
    assert first.headers["X-Total-Count"] == "53"
    following = first.links["next"]["url"]
    second = await client.get(following)
    assert [mail["text"].strip() for mail in second.json()] == ["Text 2", "Text 1", "Text 0"]
    assert "Link" not in second.headers
    exactly = await client.get("/mailbox/messages", params={"limit": 53})
    assert (len(exactly.json()), "Link" in exactly.headers) == (53, False)


async def test_emails_are_searched_in_recipient_subject_and_text(
    mailbox: Mailbox, client: httpx.AsyncClient
) -> None:
    for number, to in enumerate(["ann@b.test", "bob@b.test", "bob@b.test"]):
        await deliver(mailbox, number, to)
    for query, expected in {"BOB@": [2, 1], "größe 1": [1], "text 2": [2], "nothing": [], " ": [2, 1, 0]}.items():
        found = await client.get("/mailbox/messages", params={"q": query, "limit": 1})
        assert found.headers["X-Total-Count"] == str(len(expected)), query
        subjects = [mail["subject"] for mail in found.json()]
        while "next" in found.links:
            found = await client.get(found.links["next"]["url"])
            subjects += [mail["subject"] for mail in found.json()]
        assert subjects == [f"Größe {number}" for number in expected], query


async def test_an_email_is_shown_with_headers_and_source_and_deleted(
    mailbox: Mailbox, client: httpx.AsyncClient
) -> None:
    for number in range(3):
        await deliver(mailbox, number)
    listed = (await client.get("/mailbox/messages")).json()
    path = f"/mailbox/messages/{listed[0]['id']}"
    shown = (await client.get(path)).json()
    assert shown.items() >= listed[0].items()
    headers = dict(shown["headers"])
    assert (headers["Subject"], headers["From"]) == ("Größe 2", "Bücher <orders@shop.test>")
    source = await client.get(f"{path}/source")
    assert source.headers["Content-Type"].startswith("text/plain")
    assert "Subject: =?utf-8?b?" in source.text
    assert (await client.delete(path)).status_code == 204
    for gone in (client.get(path), client.get(f"{path}/source"), client.delete(path)):
        assert (await gone).status_code == 404
    assert len((await client.get("/mailbox/messages")).json()) == 2
    assert (await client.delete("/mailbox/messages")).status_code == 204
    assert (await client.get("/mailbox/messages")).json() == []


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "1001"}, {"limit": "x"}, {"cursor": "../x"}, {"q": "q" * 201}]
)
async def test_a_wrong_parameter_of_the_list_is_named(client: httpx.AsyncClient, query: dict[str, str]) -> None:
    refused = await client.get("/mailbox/messages", params=query)
    assert refused.status_code == 422
    assert refused.json()["errors"][0]["pointer"] == f"/{next(iter(query))}"


@pytest.mark.parametrize("name", ["x", "%2e%2e%2fsecret", "01a224f5-e4e5-7060-bf36-78ca4ca75064"])
async def test_an_unknown_email_is_not_found(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get(f"/mailbox/messages/{name}")).status_code in {404, 405}


LOCAL = [("127.0.0.1", "localhost"), ("127.0.0.1", "LOCALHOST:80"), ("::1", "[::1]:8000")]
LOCAL += [("::ffff:127.0.0.1", "127.0.0.1:8000"), ("127.0.0.2", "127.0.0.1")]
REMOTE = [("192.0.2.1", "localhost"), ("127.0.0.1", "rebind.attacker.example"), ("2001:db8::1", "[::1]")]
REMOTE += [
    ("127.0.0.1", "localhost.attacker.example"),
    ("127.0.0.1", "localhost:80@x"),
    ("127.0.0.1", "127.0.0.1.nip.io"),
]
REMOTE += [("127.0.0.1", ""), ("192.168.1.2", "192.168.1.2:8000")]


@pytest.mark.parametrize(("peer", "host"), LOCAL)
@pytest.mark.parametrize("path", PATHS)
async def test_this_machine_is_answered(mailbox: Mailbox, peer: str, host: str, path: str) -> None:
    async with client_of(mailbox, peer, host) as client:
        assert (await client.get(path)).status_code == 200


@pytest.mark.parametrize(("peer", "host"), REMOTE)
async def test_another_machine_or_host_is_refused(mailbox: Mailbox, peer: str, host: str) -> None:
    await deliver(mailbox, 1)
    async with client_of(mailbox, peer, host) as client:
        for path in PATHS:
            refused = await client.get(path)
            assert (refused.status_code, refused.json()["type"]) == (403, "/problems/forbidden")
        assert (await client.delete("/mailbox/messages")).status_code == 403
    assert (await mailbox.messages(1)).total == 1


@pytest.mark.parametrize("name", ["X-Forwarded-For", "Forwarded", "Via", "X-Real-IP"])
async def test_a_proxy_is_refused(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.get("/mailbox", headers={name: "127.0.0.1"})).status_code == 403
