"""``app demo``: a small shop's day through the public HTTP API of a running server."""

import random
import secrets
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import track

from purveyor.cli.look import out
from purveyor.kit.errors import StartupError

if TYPE_CHECKING:  # a tenth of a second that the other commands do not spend
    import httpx

_FIRST = (
    "Ada",
    "Grace",
    "Alan",
    "Edsger",
    "Barbara",
    "Donald",
    "Radia",
    "Linus",
    "Frances",
    "Ken",
    "Margaret",
    "Tim",
)
_LAST = (
    "Lovelace",
    "Hopper",
    "Turing",
    "Dijkstra",
    "Liskov",
    "Knuth",
    "Perlman",
    "Allen",
    "Thompson",
    "Hamilton",
)
_CITIES = (
    ("Berlin", "10115", "DE"),
    ("Madrid", "28001", "ES"),
    ("Lyon", "69001", "FR"),
    ("Leeds", "LS1 1UR", "GB"),
)
_LANGUAGES = {"DE": "de", "ES": "es", "FR": "fr", "GB": "en"}


def demo(
    url: Annotated[str, typer.Option(help="Where the server runs.")] = "http://127.0.0.1:8000",
    users: Annotated[int, typer.Option(help="How many customers.", min=1, max=1000)] = 5,
    orders: Annotated[int, typer.Option(help="How many orders in all.", min=0, max=100_000)] = 25,
    seed: Annotated[int | None, typer.Option(help="Same seed, same shop.", show_default=False)] = None,
) -> None:
    """Make users, addresses and orders through the public HTTP API of a running server."""
    import httpx

    chance = random.Random(seed)  # noqa: S311 - a demonstration
    with httpx.Client(base_url=url, timeout=10, trust_env=False) as client:
        try:
            products = [item["id"] for item in _call(client, "GET", "/api/products?limit=100")["products"]]
            customers = [_customer(client, chance) for _ in track(range(users), "customers")]
            for place in track(range(orders), "orders   "):
                _order(client, chance, customers[place % users], products)
        except httpx.TransportError as error:
            raise StartupError(f"There is no server at {url} ({error}): start one with app serve.") from error
    out.print(f"{users} customers and {orders} orders are there. Their mails: {url}/mailbox")
    out.print(f"Log in as {customers[0]['email']} with password {customers[0]['password']}")


def _customer(client: "httpx.Client", chance: random.Random) -> dict[str, Any]:
    name = f"{chance.choice(_FIRST)} {chance.choice(_LAST)}"
    city, postal_code, country = chance.choice(_CITIES)
    password = secrets.token_urlsafe(9)
    email = f"{name.lower().replace(' ', '.')}.{secrets.token_hex(3)}@example.com"
    body = {"email": email, "password": password, "name": name, "language": _LANGUAGES[country]}
    user = _call(client, "POST", "/register", json=body)
    token = _call(client, "POST", "/login", json={"email": email, "password": password})["access_token"]
    street = f"{chance.randint(1, 99)} High Street"
    address = {
        "recipient": name,
        "line1": street,
        "city": city,
        "postal_code": postal_code,
        "country": country,
    }
    headers = {"Authorization": f"Bearer {token}"}
    kept = _call(
        client, "POST", f"/user/{user['id']}/addresses", json={**address, "is_default": True}, headers=headers
    )
    return {"email": email, "password": password, "headers": headers, "address": kept["id"]}


def _order(client: "httpx.Client", chance: random.Random, customer: dict[str, Any], products: list[int]) -> None:
    chosen = chance.sample(products, k=min(len(products), chance.randint(1, 4)))
    _call(
        client,
        "POST",
        "/api/orders/",
        json={
            "items": [{"product_id": product, "quantity": chance.randint(1, 3)} for product in chosen],
            "payment_method": chance.choice(("cash_on_delivery", "card", "bank_transfer")),
            "shipping_address_id": customer["address"],
        },
        headers={**customer["headers"], "Idempotency-Key": secrets.token_hex(16)},
    )


def _call(client: "httpx.Client", method: str, path: str, **rest: Any) -> Any:
    """One request; waits where a rate limit says so. Raises ``StartupError`` for any other refusal."""
    while True:
        answer = client.request(method, path, **rest)
        if answer.status_code != HTTPStatus.TOO_MANY_REQUESTS:
            break
        time.sleep(int(answer.headers.get("Retry-After", "1")))
    if answer.is_error:
        raise StartupError(f"{method} {path} was answered with {answer.status_code}: {answer.text[:300]}")
    return answer.json()
