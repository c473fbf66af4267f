"""``app openapi`` and ``app asyncapi``. They need no servers."""

import tempfile
from typing import Annotated, Any

import msgspec
import typer

from purveyor import __version__
from purveyor.cli.options import ALL_ROLES, RolesOption, role_names, run
from purveyor.registry import ROLES
from purveyor.settings import Sources

IndentOption = Annotated[int, typer.Option(help="Indentation in spaces. 0 prints one line.", min=0, max=8)]


def openapi(roles: RolesOption = ALL_ROLES, indent: IndentOption = 2) -> None:
    """Print the OpenAPI document of the HTTP routes."""
    _print(run(_openapi(roles)), indent)


def asyncapi(indent: IndentOption = 2) -> None:
    """Print the AsyncAPI document of the events."""
    from purveyor.kit.events import asyncapi as document

    _print(document.asyncapi(list(ROLES.values()), version=__version__), indent)


async def _openapi(roles: str) -> dict[str, Any]:
    from purveyor.api_info import ABOUT
    from purveyor.host import Host, choose_roles
    from purveyor.kit.http import app as api
    from purveyor.kit.http.health import health_routes
    from purveyor.kit.mode import Mode

    with tempfile.TemporaryDirectory() as folder:
        sources = Sources(environ={"DATA_DIR": folder}, dotenv=None)
        host = Host(choose_roles(role_names(roles)), sources, mode=Mode.OFFLINE)
        async with host.running():
            routes = health_routes(host.health, lambda: False)
            routes += [route for actor in host.actors.values() for route in actor.routes]
            return api.openapi(routes, version=__version__, about=ABOUT)


def _print(document: dict[str, Any], indent: int) -> None:
    text = msgspec.json.format(msgspec.json.encode(document), indent=indent or -1)
    typer.echo(text.decode())
