"""Declares role ``catalog``: what it serves, and how it is built."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from purveyor.kit.role import Actor, Env, Role


class CatalogSettings(msgspec.Struct, frozen=True):
    """Nothing to set: the catalogue comes with the package."""


@asynccontextmanager
async def build(_env: Env, _settings: CatalogSettings) -> AsyncIterator[Actor]:
    """Run the role: routes only, nothing to open or to close."""
    from purveyor.roles.catalog.routes import catalog_routes

    yield Actor(routes=catalog_routes())


ROLE = Role(
    name="catalog",
    serves="the bundled product catalog with the API of fakestoreapi.in",
    settings=CatalogSettings,
    build=build,
    tags={"catalog": "The bundled catalog with the API of fakestoreapi.in, and its pictures."},
)
