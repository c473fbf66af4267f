"""``app serve`` and ``app worker``."""

from typing import TYPE_CHECKING, Annotated

import typer

from purveyor.cli.options import ALL_ROLES, ConfigOption, RolesOption, role_names, sources_factory
from purveyor.kit.errors import ConfigError

if TYPE_CHECKING:  # see cli.options
    from purveyor.process import Plan

Port = Annotated[int, typer.Option(help="Port of the HTTP server.", min=1, max=65535)]
Workers = Annotated[int, typer.Option(help="Number of processes that share the port.", min=1, max=64)]


def serve(
    roles: RolesOption = ALL_ROLES,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Port = 8000,
    workers: Workers = 1,
    config: ConfigOption = None,
) -> None:
    """Run roles with HTTP routes, events and background tasks.

    Without options all roles run, on the embedded servers.
    """
    from purveyor.process import Plan

    _run(
        Plan(
            roles=role_names(roles),
            make_sources=sources_factory(config),
            host=host,
            port=port,
            workers=workers,
        )
    )


def worker(
    roles: Annotated[str, typer.Option("--roles", help="Comma-separated roles.", show_default=False)] = "",
    health_port: Annotated[
        int | None,
        typer.Option(
            "--health-port",
            "--port",
            help="Port for health checks and metrics.",
            min=1,
            max=65535,
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address of the health port.")] = "127.0.0.1",
    workers: Workers = 1,
    config: ConfigOption = None,
) -> None:
    """Run roles without public HTTP routes.

    Runs the event subscriptions and background tasks.
    """
    from purveyor.process import Plan

    if not roles:
        raise ConfigError(f"app worker needs --roles, for example --roles email. Available roles: {ALL_ROLES}.")
    _run(
        Plan(
            roles=role_names(roles),
            make_sources=sources_factory(config),
            host=host,
            port=health_port,
            workers=workers,
            public=False,
        )
    )


def _run(plan: "Plan") -> None:
    from purveyor.process import run

    if code := run(plan):
        raise typer.Exit(code)
