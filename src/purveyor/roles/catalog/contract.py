"""What other roles may use of the catalogue: the shape of a product, and the bundled products themselves."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import msgspec

from purveyor.kit.events.message import Message
from purveyor.kit.money import Amount


class Product(Message, frozen=True):
    """A product with the members that fakestoreapi.in gives it."""

    id: int
    title: str
    image: str
    """Path of its picture on a server that runs role ``catalog``."""
    price: Amount
    """What one piece costs. ``discount`` is already taken off."""
    description: str
    brand: str
    model: str
    color: str
    category: str
    discount: int = 0
    """In percent; for show, not for computing a price."""


@cache
def bundled() -> Mapping[int, Product]:
    """All bundled products by their id, in the order of the ids. Read once, at the first call."""
    data = files(__package__).joinpath("products.json").read_bytes()
    return MappingProxyType({item.id: item for item in msgspec.json.decode(data, type=list[Product])})


@cache
def categories() -> tuple[str, ...]:
    """The categories of the bundled products, in alphabetical order."""
    return tuple(sorted({item.category for item in bundled().values()}))
