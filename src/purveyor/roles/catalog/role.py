"""Declaration and assembly of role catalog."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from purveyor.kit.role import Actor, Env, Role


class CatalogSettings(msgspec.Struct, frozen=True):
    """No settings: the catalog comes with the package."""


@asynccontextmanager
async def build(_env: Env, _settings: CatalogSettings) -> AsyncIterator[Actor]:
    """Start role catalog, which has only routes."""
    from purveyor.roles.catalog.routes import catalog_routes

    yield Actor(routes=catalog_routes())


ROLE = Role(
    name="catalog",
    serves="the bundled product catalog with the API of fakestoreapi.in",
    settings=CatalogSettings,
    build=build,
    tags={"catalog": "The bundled catalog with the API of fakestoreapi.in, and its pictures."},
)
