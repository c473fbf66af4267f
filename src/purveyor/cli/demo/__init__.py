"""``app demo``: fill a running server with realistic data through its public HTTP API."""

import asyncio
import random
import secrets
from collections.abc import Awaitable, Iterable
from contextlib import aclosing
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar
from urllib.parse import urlsplit

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from purveyor.cli.options import ConfigOption, asked, run
from purveyor.cli.output import out
from purveyor.kit.errors import ConfigError, StartupError
from purveyor.roles.auth.client import AccountAdmin

if TYPE_CHECKING:  # imports the HTTP client
    from purveyor.cli.demo.shop import DemoShop

T = TypeVar("T")


class _Plan(NamedTuple):
    url: str
    users: int
    orders: int
    seed: int | None
    staff: tuple[str, str] | None
    config: Path | None


def demo(  # noqa: PLR0917 - each is an option
    url: Annotated[str, typer.Option(help="Base URL of the running server.")] = "http://127.0.0.1:8000",
    users: Annotated[int, typer.Option(help="Number of customers.", min=1, max=1000)] = 200,
    orders: Annotated[int, typer.Option(help="Number of orders.", min=0, max=100_000)] = 2000,
    seed: Annotated[
        int | None,
        typer.Option(help="Seed of the random data.", show_default=False),
    ] = None,
    staff: Annotated[
        str,
        typer.Option(
            help="EMAIL:PASSWORD of the staff member who processes the orders. By default one is created in the "
            "database of the local settings.",
            show_default=False,
        ),
    ] = "",
    config: ConfigOption = None,
) -> None:
    """Fill a running server with customers, addresses and orders.

    Uses the public HTTP API. The orders are in every state.
    """
    import httpx

    if not _is_url(url):
        raise ConfigError(f"--url {url}: not a valid URL. Expected one such as http://127.0.0.1:8000.")
    email, _, password = staff.partition(":")
    if staff and not password:
        raise ConfigError("--staff: expected EMAIL:PASSWORD.")
    try:
        run(_demo(_Plan(url, users, orders, seed, (email, password) if staff else None, config)))
    except httpx.TransportError as error:
        raise StartupError(f"There is no server at {url} ({error}). Start one with app serve.") from error


def _is_url(url: str) -> bool:
    import httpx

    try:
        parts = httpx.URL(url)
        return parts.scheme in ("http", "https") and bool(parts.host) and urlsplit(url).port != 0
    except (httpx.InvalidURL, ValueError):
        return False


async def _demo(plan: _Plan) -> None:
    from purveyor.cli.demo.shop import DemoShop, fate

    chance = random.Random(plan.seed)  # noqa: S311 - no secret
    customers_password = f"demo-{secrets.token_urlsafe(6)}"
    async with aclosing(DemoShop(plan.url, chance)) as shop:
        products = await shop.products()
        email, password = plan.staff or await _make_staff(plan.config)
        token = await _sign_in(shop, plan, email, password)
        fates = [fate(chance) for _ in range(plan.orders)]
        with _progress() as progress:
            joining = (shop.join(number, customers_password) for number in range(plan.users))
            customers = await _each(progress, "customers", joining)
            lives = (
                shop.live(customers[place % plan.users], products, token, fate) for place, fate in enumerate(fates)
            )
            await _each(progress, "orders   ", lives)
    out.print(f"Created {plan.users} customers and {plan.orders} orders. Shop and order desk: {plan.url}/")
    out.print(f"Customer: {customers[0].email}  password {customers_password}  (the same for all customers)")
    out.print(f"Staff:    {email}  password {password}")
    out.print(f"Emails:   {plan.url}/mailbox")


async def _sign_in(shop: "DemoShop", plan: _Plan, email: str, password: str) -> str:
    from purveyor.cli.demo.shop import Refused

    try:
        return await shop.sign_in(email, password)
    except Refused as refused:
        if plan.staff or refused.status != HTTPStatus.UNAUTHORIZED:
            raise
        raise StartupError(
            f"The server at {plan.url} uses another database than this command. Use the same DATA_DIR or "
            "DATABASE_URL, or pass --staff EMAIL:PASSWORD."
        ) from refused


async def _each(progress: Progress, name: str, work: Iterable[Awaitable[T]]) -> list[T]:
    tasks = [asyncio.ensure_future(one) for one in work]
    bar = progress.add_task(name, total=len(tasks))
    for task in tasks:
        task.add_done_callback(lambda _: progress.advance(bar))
    return await asyncio.gather(*tasks)


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=out
    )


async def _make_staff(config: ConfigOption) -> tuple[str, str]:
    """Create a staff account in the database; the public API only creates customers."""
    email, password = f"staff.{secrets.token_hex(3)}@example.com", f"demo-{secrets.token_urlsafe(6)}"
    try:
        opened = {"email": email, "name": "Demo Staff", "password": password, "access": "staff"}
        await asked(AccountAdmin, lambda accounts: accounts.open(**opened), config)
    except (ConfigError, StartupError) as error:
        raise StartupError(
            f"{error} If this machine has no access to the database, pass --staff EMAIL:PASSWORD."
        ) from error
    return email, password
