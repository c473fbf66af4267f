"""``app migrate`` and ``app user``."""

import sys
from typing import Annotated, Literal, TypeVar

import typer

from purveyor.cli.look import out, table
from purveyor.cli.options import (
    ALL_ROLES,
    ConfigOption,
    RolesOption,
    console,
    read_sources,
    role_names,
    run,
)
from purveyor.kit import log
from purveyor.kit.events.message import Ask
from purveyor.roles.auth.contract import ListErasures, OpenAccount, SetAccess

R = TypeVar("R")

Access = Literal["customer", "staff", "admin"]
user = typer.Typer(no_args_is_help=True, help="Create users, and say what they may do.")


def migrate(roles: RolesOption = ALL_ROLES, config: ConfigOption = None) -> None:
    """Bring the database schemas of the roles up to date."""
    run(_migrate(roles, config))


async def _migrate(roles: str, config: ConfigOption) -> None:
    from purveyor.host import Host, choose_roles

    log.configure("console", "warning")
    host = Host(choose_roles(role_names(roles)), read_sources(config), console=True)
    applied = await host.migrate()
    for name in applied:
        out.print(f"applied {name}")
    if not applied:
        out.print("up to date")


@user.command("add")
def add(
    email: str,
    name: Annotated[str, typer.Option(help="The person's name.")],
    role: Annotated[Access, typer.Option(help="What they may do.")] = "customer",
    password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input.")] = False,
    config: ConfigOption = None,
) -> None:
    """Create a user; asks for the password at a terminal, else reads it from standard input."""
    if password_stdin or not sys.stdin.isatty():
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    account = run(_ask(OpenAccount(email=email, name=name, password=password, access=role), config))
    out.print(f"{account.email} is {account.access}, id {account.id}")


@user.command("role")
def set_role(email: str, role: Access, config: ConfigOption = None) -> None:
    """Make a user customer, staff or admin; it counts within 5 seconds, wherever they are logged in."""
    account = run(_ask(SetAccess(email=email, access=role), config))
    out.print(f"{account.email} is {account.access}")


@user.command("erasures")
def erasures(
    unfinished: Annotated[
        bool, typer.Option("--unfinished", help="Only those that a role has yet to do.")
    ] = False,
    limit: Annotated[int, typer.Option(help="At most so many.", min=1, max=1000)] = 50,
    config: ConfigOption = None,
) -> None:
    """List deleted accounts, and when each role erased its part."""
    found = run(_ask(ListErasures(unfinished=unfinished, limit=limit), config)).erasures
    shown = table("User", "Deleted", "Orders erased", "Mails erased")
    for one in found:
        moments = (one.requested_at, one.orders_erased_at, one.mails_erased_at)
        shown.add_row(one.user_id, *(f"{moment:%F %T}" if moment else "not yet" for moment in moments))
    if found:
        out.print(shown)
    else:
        out.print("no erasure is unfinished" if unfinished else "no account was deleted")


async def _ask(message: Ask[R], config: ConfigOption) -> R:
    async with console("auth", config) as host:
        return await host.ask(message)
