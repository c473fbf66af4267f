"""The catalog's contract with other roles: the shape of a product."""

from purveyor.kit.events.message import Message
from purveyor.kit.money import Amount


class Product(Message, frozen=True):
    """A product with the members that fakestoreapi.in gives it."""

    id: int
    title: str
    image: str
    """Path of its picture on a server that runs role ``catalog``."""
    price: Amount
    """Price of one piece, with the discount already taken off."""
    description: str
    brand: str
    model: str
    color: str
    category: str
    discount: int = 0
    """In percent; for display only."""
