"""``app serve`` and ``app worker``."""

from typing import TYPE_CHECKING, Annotated

import typer

from purveyor.cli.options import ALL_ROLES, ConfigOption, RolesOption, role_names, sources_factory
from purveyor.kit.errors import ConfigError

if TYPE_CHECKING:  # see cli.options
    from purveyor.process import Plan

Port = Annotated[int, typer.Option(help="Port of the HTTP server.", min=1, max=65535)]
Workers = Annotated[int, typer.Option(help="How many processes; they share the port.", min=1, max=64)]


def serve(
    roles: RolesOption = ALL_ROLES,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Port = 8000,
    workers: Workers = 1,
    config: ConfigOption = None,
) -> None:
    """Run roles with their routes, events and background tasks; without options all, on the embedded default."""
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
    roles: Annotated[str, typer.Option("--roles", help="Roles, separated by commas.", show_default=False)] = "",
    health_port: Annotated[
        int | None,
        typer.Option(
            "--health-port",
            "--port",
            help="Serve only health and metrics here.",
            min=1,
            max=65535,
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Address of the health port.")] = "127.0.0.1",
    workers: Workers = 1,
    config: ConfigOption = None,
) -> None:
    """Run roles' events and background tasks, without their public HTTP routes."""
    from purveyor.process import Plan

    if not roles:
        raise ConfigError(f"worker needs --roles, for example --roles email; there are: {ALL_ROLES}.")
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
