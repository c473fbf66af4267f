"""The HTTP routes of the catalogue as it can be ordered."""

import re
from typing import Annotated, Any

from litestar import get
from litestar.params import FromPath, QueryParameter

from purveyor.kit.errors import InvalidInput, NotFound
from purveyor.kit.web import problem_responses
from purveyor.roles.orders import examples
from purveyor.roles.orders.contract import ProductsUnavailable
from purveyor.roles.orders.service import Orders
from purveyor.roles.orders.views import CatalogueItem, CataloguePage, catalogue_item


def product_routes(orders: Orders, currency: str) -> list[Any]:
    """The routes; everybody may read them."""

    @get(
        "/api/products",
        tags=["products"],
        summary="What can be ordered",
        description=(
            "The catalogue in its own order, at the prices that an order placed now would have. An empty page is "
            "past the end."
        ),
        responses={
            **problem_responses(InvalidInput, ProductsUnavailable),
            **examples.answer(CataloguePage, "A page of the catalogue.", examples.PRODUCTS),
        },
    )
    async def products(
        page: Annotated[int, QueryParameter(ge=1, le=100_000)] = 1,
        limit: Annotated[int, QueryParameter(ge=1, le=100)] = 20,
        category: Annotated[str | None, QueryParameter(max_length=100)] = None,
    ) -> CataloguePage:
        found = await orders.products(page, limit, category)
        return CataloguePage([catalogue_item(product, currency) for product in found], page, limit)

    @get(
        "/api/products/{product_id:str}",
        tags=["products"],
        summary="One product",
        description="A product by its number, at the price that an order placed now would have.",
        responses={
            **problem_responses(NotFound, ProductsUnavailable),
            **examples.answer(CatalogueItem, "The product.", examples.PRODUCT),
        },
    )
    async def product(product_id: FromPath[str]) -> CatalogueItem:
        if not re.fullmatch(r"[1-9][0-9]{0,9}", product_id):
            raise NotFound("There is no such product.")
        return catalogue_item(await orders.product(int(product_id)), currency)

    return [products, product]
