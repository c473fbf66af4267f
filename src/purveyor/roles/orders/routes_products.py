"""The HTTP routes of products, at the prices of an order placed now."""

import re
from typing import Annotated, Any
from urllib.parse import unquote

from litestar import Request
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
from purveyor.kit.http.web import sent_path
from purveyor.roles.orders import schemas
from purveyor.roles.orders.contract import ProductId, ProductsUnavailable, ProductUnavailable
from purveyor.roles.orders.model import MAX_PRODUCT_NUMBER, MAX_PRODUCT_TEXT
from purveyor.roles.orders.schemas import ProductPage, ProductView, product_view
from purveyor.roles.orders.service import Orders

_FIRST = "$response.body#/products/0/id"
_MAX_PAGE = 100_000
_NUMBER = re.compile(r"[1-9][0-9]{0,15}")

PathProductId = Annotated[
    str,
    PathParameter(
        description="Product ID, percent-encoded. Digits are a number; where no product has that number, a text.",
        schema_extra={"minLength": 1, "examples": ["1", "SKU-1"]},
    ),
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
            "Products in the order of the catalog, at the prices that a new order would have. Products that "
            "cannot be sold now are left out, so a page may be short: only `has_more` says whether there are "
            "more. A page past the end is empty."
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
        views = [product_view(product, currency) for product in found.products]
        return ProductPage(views, number, size, found.has_more)

    @group.get(
        "/api/products/{product_id:path}",
        operation_id="get_product",
        summary="Get a product",
        description="The price is the one that a new order would have.",
        links=(link("place_order"),),
        responses=answer(ProductView, "The product.", schemas.PRODUCT),
        problems=(NotFound, ProductUnavailable),
    )
    async def product(product_id: PathProductId, request: Request[Any, Any, Any]) -> ProductView:
        last = NotFound("There is no such product.")
        for wanted in _meant(_sent_id(product_id, request)):
            try:
                return product_view(await orders.product(wanted), currency)
            except NotFound as error:
                last = error
        raise last

    return [products, product]


def _sent_id(path: str, request: Request[Any, Any, Any]) -> str:
    """The id as a single segment of the path; empty for several. An id may contain slashes, sent as ``%2F``."""
    segment = unquote(sent_path(request.scope).rstrip("/").rpartition("/")[2])
    return segment if segment.strip("/") == path.strip("/") else ""


def _meant(text: str) -> list[ProductId]:
    """The ids that a text in a path can mean, the likelier one first."""
    texts: list[ProductId] = [text] if 0 < len(text) <= MAX_PRODUCT_TEXT else []
    if _NUMBER.fullmatch(text) and int(text) <= MAX_PRODUCT_NUMBER:
        return [int(text), *texts]
    return texts
