"""``app migrate`` and ``app user``: schemas and accounts."""

import sys
from collections.abc import Sequence
from typing import Annotated, Literal

import typer
from rich.table import Table

from purveyor.cli.help import GroupedHelp
from purveyor.cli.options import (
    ALL_ROLES,
    ConfigOption,
    RolesOption,
    asked,
    read_sources,
    role_names,
    run,
)
from purveyor.cli.output import JsonOption, out, print_json, table
from purveyor.kit import log
from purveyor.kit.errors import ConfigError
from purveyor.kit.mode import Mode
from purveyor.registry import ROLES
from purveyor.roles.auth.client import AccountAdmin
from purveyor.roles.auth.contract import Erasure, ErasureAnswer

Access = Literal["customer", "staff", "admin"]
Email = Annotated[str, typer.Argument(help="Email address of the user.")]
user = typer.Typer(
    cls=GroupedHelp,
    name="user",
    no_args_is_help=True,
    help="Create users, change roles and list deleted accounts.",
    epilog="Example: app user role ada@example.com staff",
)


def migrate(roles: RolesOption = ALL_ROLES, config: ConfigOption = None) -> None:
    """Bring the database schemas of the roles up to date."""
    run(_migrate(roles, config))


async def _migrate(roles: str, config: ConfigOption) -> None:
    from purveyor.host import Host, choose_roles

    log.configure("console", "warning")
    host = Host(choose_roles(role_names(roles)), read_sources(config), mode=Mode.CONSOLE)
    applied = await host.migrate()
    for name in applied:
        out.print(f"Applied {name}.")
    if not applied:
        out.print("All schemas are up to date.")


@user.command("add", epilog='Example: app user add ada@example.com --name "Ada Lovelace" --role staff')
def add(
    email: Email,
    name: Annotated[str, typer.Option(help="Name of the user.")],
    role: Annotated[Access, typer.Option(help="Role of the user.")] = "customer",
    password_stdin: Annotated[bool, typer.Option(help="Read the password from standard input.")] = False,
    config: ConfigOption = None,
) -> None:
    """Create a user.

    Prompts for the password on a terminal, otherwise reads it from standard input.
    """
    if password_stdin or not _on_terminal():
        password = _read_password()
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    opened = {"email": email, "name": name, "password": password, "access": role}
    account = run(asked(AccountAdmin, lambda accounts: accounts.open(**opened), config))
    out.print(f"Created {account.email} with role {account.access}, ID {account.id}.")


def _on_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def _read_password() -> str:
    """The first line of standard input. Raises ``ConfigError`` if it is closed or not UTF-8."""
    if sys.stdin is None:
        raise ConfigError("Standard input is closed. Send the password there.")
    try:
        return sys.stdin.buffer.readline().rstrip(b"\r\n").decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError("The password on standard input is not valid UTF-8.") from None  # the cause quotes it


@user.command("role", epilog="Example: app user role ada@example.com staff")
def set_role(
    email: Email, role: Annotated[Access, typer.Argument(help="New role.")], config: ConfigOption = None
) -> None:
    """Change the role of a user. It takes effect within 5 seconds, also in open sessions."""
    account = run(asked(AccountAdmin, lambda accounts: accounts.set_access(email, role), config))
    out.print(f"{account.email} now has role {account.access}.")


@user.command("erasures", epilog="Example: app user erasures --unfinished")
def erasures(
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Only erasures that are not complete.")] = False,
    limit: Annotated[int, typer.Option(help="Maximum number of accounts.", min=1, max=1000)] = 50,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """List deleted accounts and when each role erased their data.

    Open orders keep the name and the addresses until 14 days after they are delivered or cancelled.
    """
    found = run(asked(AccountAdmin, lambda auth: auth.erasures(unfinished=unfinished, limit=limit), config))
    if as_json:
        print_json(found)
        return
    if found:
        out.print(erasure_table(found))
    else:
        out.print("All erasures are complete." if unfinished else "No accounts have been deleted.")


def erasure_table(found: Sequence[Erasure]) -> Table:
    """A row for each account."""
    holders = {name: f"Erased by {name}" for name, role in ROLES.items() if role.personal_data}
    shown = table(
        *("User", "Deleted", *holders.values()),
        whole=["User", "Deleted"],
        drop=["Deleted", *reversed(holders.values())],
    )
    for one in found:
        answers = {answer.role: answer for answer in one.answers}
        shown.add_row(one.user_id, f"{one.requested_at:%F %T}", *(_erased(answers.get(name)) for name in holders))
    return shown


def _erased(answer: ErasureAnswer | None) -> str:
    if answer is None:
        return "not yet"
    if answer.retained:
        return f"not yet: {answer.retained} open or recent order{'s' if answer.retained > 1 else ''}"
    return f"{answer.erased_at:%F %T}"
