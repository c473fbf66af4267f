"""The console script ``app``."""

import sys

import typer

from purveyor.cli.demo import demo
from purveyor.cli.documents import asyncapi, openapi
from purveyor.cli.drill import drill
from purveyor.cli.errors import exit_with_one_line
from purveyor.cli.events import events
from purveyor.cli.look import config, doctor, roles
from purveyor.cli.mail import mail, trace
from purveyor.cli.manage import migrate, user
from purveyor.cli.reconcile import reconcile
from purveyor.cli.serve import serve, worker

app = typer.Typer(
    name="app",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Purveyor: order management as one process or as many services.",
)
for command in (serve, worker, roles, migrate, doctor, config, openapi, asyncapi, demo, drill, trace, reconcile):
    app.command(command.__name__)(command)
app.add_typer(user, name="user")
app.add_typer(events, name="events")
app.add_typer(mail, name="mail")


def main() -> None:
    """Run the command line; see ``cli.errors`` for what its exit codes mean."""
    with exit_with_one_line():
        sys.exit(app(standalone_mode=False) or 0)
