"""The HTTP routes of products, at the prices of an order placed now."""

import re
from typing import Annotated, Any

from litestar.params import PathParameter, QueryParameter

from purveyor.kit.errors import NotFound
from purveyor.kit.http.routes import (
    DEFAULT_LIMIT,
    Limit,
    RouteGroup,
    answer,
    link,
    number_schema,
    read_limit,
    read_number,
)
from purveyor.roles.orders import schemas
from purveyor.roles.orders.contract import ProductsUnavailable
from purveyor.roles.orders.schemas import ProductPage, ProductView, product_view
from purveyor.roles.orders.service import Orders

_FIRST = "$response.body#/products/0/id"

_MAX_PAGE = 100_000

# Ids are parsed here: anything but a number is a product that does not exist.
ProductId = Annotated[
    str, PathParameter(description="Product ID.", schema_extra={"type": "integer", "minimum": 1})
]
Page = Annotated[
    str, QueryParameter(description="Page number, starting at 1", schema_extra=number_schema(_MAX_PAGE, default=1))
]


def product_routes(orders: Orders, currency: str) -> list[Any]:
    """The routes, open to everyone."""
    group = RouteGroup("products", problems=(ProductsUnavailable,))

    @group.get(
        "/api/products",
        operation_id="list_products",
        summary="List products",
        description=(
            "Products in the order of the catalog, at the prices that a new order would have. A page past the end "
            "is empty."
        ),
        links=(link("get_product", product_id=_FIRST), link("place_order")),
        responses=answer(ProductPage, "A page of products.", schemas.PRODUCTS),
    )
    async def products(
        page: Page = "1",
        limit: Limit = DEFAULT_LIMIT,
        category: Annotated[
            str | None, QueryParameter(max_length=100, description="Only products of this category")
        ] = None,
    ) -> ProductPage:
        number, size = read_number("page", page, _MAX_PAGE), read_limit(limit)
        found = await orders.products(number, size, category)
        return ProductPage([product_view(product, currency) for product in found], number, size)

    @group.get(
        "/api/products/{product_id:str}",
        operation_id="get_product",
        summary="Get a product",
        description="The price is the one that a new order would have.",
        links=(link("place_order"),),
        responses=answer(ProductView, "The product.", schemas.PRODUCT),
        problems=(NotFound,),
    )
    async def product(product_id: ProductId) -> ProductView:
        if not re.fullmatch(r"[1-9][0-9]{0,9}", product_id):
            raise NotFound("There is no such product.")
        return product_view(await orders.product(int(product_id)), currency)

    return [products, product]
