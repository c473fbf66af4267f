"""The command line ``app``."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from purveyor import __version__
from purveyor.cli.admin import migrate, user
from purveyor.cli.demo import demo
from purveyor.cli.documents import asyncapi, openapi
from purveyor.cli.drill import drill
from purveyor.cli.errors import exit_with_one_line
from purveyor.cli.events import events
from purveyor.cli.help import GroupedHelp
from purveyor.cli.inspect import config, doctor, roles
from purveyor.cli.mail import mail, trace
from purveyor.cli.reconcile import reconcile
from purveyor.cli.serve import serve, worker
from purveyor.cli.status import status

_Commands = dict[Callable[..., None] | typer.Typer, str]
_GROUPS: dict[str, _Commands] = {
    "Run": {
        serve: "app serve --roles auth,orders --port 8000 --workers 2",
        worker: "app worker --roles email --health-port 8001",
        migrate: "app migrate --config configs/split.toml",
    },
    "Check": {
        status: "app status --config configs/split.toml",
        doctor: "app doctor --roles orders,email",
        config: "app config --json",
        roles: "app roles --json",
        reconcile: "app reconcile --apply",
    },
    "Orders, events, emails and users": {trace: "app trace 10001", events: "", mail: "", user: ""},
    "Try and integrate": {
        demo: "app demo --users 20 --orders 200 --seed 7",
        openapi: "app openapi --roles orders > openapi.json",
        asyncapi: "app asyncapi > asyncapi.json",
        drill: "app drill --shape split --seconds 120 --only kill,freeze",
    },
}


app = typer.Typer(
    name="app",
    cls=GroupedHelp,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Examples: app serve, app demo, app status, app doctor --config configs/split.toml",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"purveyor {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Purveyor: order management as one process or as many services."""


for group, commands in _GROUPS.items():
    for command, example in commands.items():
        if isinstance(command, typer.Typer):
            app.add_typer(command, rich_help_panel=group)
        else:
            epilog = f"Example: {example}"
            app.command(command.__name__, epilog=epilog, rich_help_panel=group)(command)


def main() -> None:
    """Run the command line. ``kit.process.exit_codes`` lists the exit codes."""
    with exit_with_one_line():
        sys.exit(app(prog_name="app", standalone_mode=False) or 0)
