"""The bundled products, for every role: they come with the package, so nobody needs to be asked."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import msgspec

from purveyor.roles.catalog.contract import Product


@cache
def bundled() -> Mapping[int, Product]:
    """All bundled products, in the order of their ids. The file is read at the first call."""
    data = files(__package__).joinpath("products.json").read_bytes()
    return MappingProxyType({item.id: item for item in msgspec.json.decode(data, type=list[Product])})


@cache
def categories() -> tuple[str, ...]:
    """The categories of the bundled products, in alphabetical order."""
    return tuple(sorted({item.category for item in bundled().values()}))
