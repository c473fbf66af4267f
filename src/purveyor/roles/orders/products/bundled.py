"""Products from the bundled catalog, the default of role orders."""

from collections.abc import Collection, Mapping, Sequence

from purveyor.kit.money import from_major
from purveyor.roles.catalog.client import bundled
from purveyor.roles.orders.model import Product

_SAME = [name for name in Product.__struct_fields__ if name != "price"]


class BundledProducts:
    """The bundled products, priced for orders."""

    def __init__(self) -> None:
        self._products = {
            product.id: Product(
                price=from_major(product.price), **{name: getattr(product, name) for name in _SAME}
            )
            for product in bundled().values()
        }

    async def fetch(self, ids: Collection[int]) -> Mapping[int, Product]:
        return {wanted: self._products[wanted] for wanted in ids if wanted in self._products}

    async def page(self, page: int, limit: int, category: str | None) -> Sequence[Product]:
        everything = self._products.values()
        found = [view for view in everything if category in {None, view.category}]
        return found[(page - 1) * limit : page * limit]

    async def check(self) -> str:
        return f"bundled catalog, {len(self._products)} products"
