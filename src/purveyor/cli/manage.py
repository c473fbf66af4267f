"""``app migrate`` and ``app user``."""

import sys
from typing import Annotated, Literal

import typer

from purveyor.cli.look import out
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
from purveyor.roles.auth.contract import Account, OpenAccount, SetAccess

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
    """Create a user; asks for the password, or reads it from standard input."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    account = run(_ask(OpenAccount(email=email, name=name, password=password, access=role), config))
    out.print(f"{account.email} is {account.access}, id {account.id}")


@user.command("role")
def set_role(email: str, role: Access, config: ConfigOption = None) -> None:
    """Make a user customer, staff or admin; it counts from their next log-in."""
    account = run(_ask(SetAccess(email=email, access=role), config))
    out.print(f"{account.email} is {account.access}")


async def _ask(message: OpenAccount | SetAccess, config: ConfigOption) -> Account:
    async with console("auth", config) as host:
        return await host.ask(message)
