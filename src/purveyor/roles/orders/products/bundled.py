"""Products from the bundled catalog, the default of role orders."""

from collections.abc import Collection, Mapping

from purveyor.kit.money import rounded
from purveyor.roles.catalog.client import bundled
from purveyor.roles.orders.contract import ProductId
from purveyor.roles.orders.model import Product, ProductSlice

_SAME = [name for name in Product.__struct_fields__ if name != "price"]


class BundledProducts:
    """The bundled products, priced for orders: their prices are rounded to the decimals of ``currency``."""

    def __init__(self, currency: str) -> None:
        self._products: dict[ProductId, Product] = {
            product.id: Product(
                price=rounded(product.price, currency), **{name: getattr(product, name) for name in _SAME}
            )
            for product in bundled().values()
        }

    async def fetch(self, ids: Collection[ProductId]) -> Mapping[ProductId, Product]:
        return {wanted: self._products[wanted] for wanted in ids if wanted in self._products}

    async def page(self, page: int, limit: int, category: str | None) -> ProductSlice:
        everything = self._products.values()
        found = [view for view in everything if category in {None, view.category}]
        return ProductSlice(found[(page - 1) * limit : page * limit], len(found) > page * limit)

    async def check(self) -> str:
        return f"bundled catalog, {len(self._products)} products"
