"""The command line ``app``."""

import sys
from collections.abc import Callable

import typer

from purveyor.cli.admin import migrate, user
from purveyor.cli.demo import demo
from purveyor.cli.documents import asyncapi, openapi
from purveyor.cli.drill import drill
from purveyor.cli.errors import exit_with_one_line
from purveyor.cli.events import events
from purveyor.cli.inspect import config, doctor, roles
from purveyor.cli.mail import mail, trace
from purveyor.cli.reconcile import reconcile
from purveyor.cli.serve import serve, worker

app = typer.Typer(
    name="app",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Purveyor: order management as one process or as many services.",
    epilog="Examples: app serve, app demo, app doctor --config configs/split.toml",
)
_COMMANDS: dict[Callable[..., None], str] = {
    serve: "app serve --roles auth,orders --port 8000 --workers 2",
    worker: "app worker --roles email --health-port 8001",
    roles: "",
    migrate: "app migrate --config configs/split.toml",
    doctor: "app doctor --roles orders,email",
    config: "app config --config configs/split.toml",
    openapi: "app openapi --roles orders > openapi.json",
    asyncapi: "app asyncapi > asyncapi.json",
    demo: "app demo --users 20 --orders 200 --seed 7",
    drill: "app drill --shape split --seconds 120 --only kill,freeze",
    trace: "app trace 10001",
    reconcile: "app reconcile --apply",
}
for command, example in _COMMANDS.items():
    app.command(command.__name__, epilog=example and f"Example: {example}")(command)
app.add_typer(user, name="user")
app.add_typer(events, name="events")
app.add_typer(mail, name="mail")


def main() -> None:
    """Run the command line. ``kit.process.exit_codes`` lists the exit codes."""
    with exit_with_one_line():
        sys.exit(app(standalone_mode=False) or 0)
