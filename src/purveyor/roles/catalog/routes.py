"""The HTTP routes of the catalog, in the shape of fakestoreapi.in, and of product pictures."""

import re
from typing import Annotated

import msgspec
from litestar import Response, get
from litestar.datastructures import CacheControlHeader
from litestar.handlers import HTTPRouteHandler
from litestar.params import PathParameter, QueryParameter

from purveyor.kit.errors import NotFound
from purveyor.kit.http.routes import RouteGroup, answer, link, number_schema, read_number
from purveyor.roles.catalog.client import bundled, categories
from purveyor.roles.catalog.contract import Product
from purveyor.roles.catalog.model import picture

MAX_LIMIT = 150
MAX_PAGE = 999_999_999

_DAY_S = 86_400
_NUMBER = re.compile(r"[1-9][0-9]{0,8}")
_PRODUCT = {
    "id": 1,
    "title": "Ondulo Murmur One Wireless Headphones",
    "image": "/catalog/images/1.svg",
    "price": 59.95,
    "description": "Over-ear headphones that fold flat, with 40 hours on one charge.",
    "brand": "Ondulo",
    "model": "Murmur One",
    "color": "slate",
    "category": "audio",
    "discount": 10,
}
_LIST = {"status": "SUCCESS", "message": "1 products", "products": [_PRODUCT]}
_ONE = {"status": "SUCCESS", "message": "Product 1", "product": _PRODUCT}
_CATEGORIES = {"status": "SUCCESS", "message": "2 categories", "categories": ["audio", "kitchen"]}

# Numbers are parsed here, for errors in the contract's own terms. An id that is not a number is a product that
# does not exist.
ProductId = Annotated[
    str, PathParameter(description="Product ID.", schema_extra={"type": "integer", "minimum": 1})
]
PageNumber = Annotated[
    str,
    QueryParameter(
        description="Page number, starting at 1.",
        schema_extra=number_schema(MAX_PAGE, default=1),
    ),
]
Limit = Annotated[
    str,
    QueryParameter(
        description="Products per page.",
        schema_extra=number_schema(MAX_LIMIT, default=MAX_LIMIT),
    ),
]
Category = Annotated[
    str | None,
    QueryParameter(
        name="type", description="Category whose products are listed. Without it the category names are listed."
    ),
]
FileName = Annotated[str, PathParameter(description="Product ID with the suffix `.svg`.")]


class ProductList(msgspec.Struct, frozen=True, kw_only=True):
    """Products, sorted by ID."""

    status: str = "SUCCESS"
    message: str
    products: list[Product]


class ProductAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A product."""

    status: str = "SUCCESS"
    message: str
    product: Product


class CategoryList(msgspec.Struct, frozen=True, kw_only=True):
    """The names of the categories."""

    status: str = "SUCCESS"
    message: str
    categories: list[str]


def catalog_routes() -> list[HTTPRouteHandler]:
    """Every route of the role."""
    group = RouteGroup("catalog")

    @group.get(
        "/catalog/products",
        operation_id="list_catalog",
        summary="List catalog products",
        description="Sorted by ID. A page past the end is empty.",
        links=(link("get_catalog_product", product_id="$response.body#/products/0/id"),),
        responses=answer(ProductList, "A page of products.", _LIST),
    )
    async def list_products(page: PageNumber = "1", limit: Limit = str(MAX_LIMIT)) -> ProductList:
        size = read_number("limit", limit, MAX_LIMIT)
        start = (read_number("page", page, MAX_PAGE) - 1) * size
        return _product_list(list(bundled().values())[start : start + size])

    @group.get(
        "/catalog/products/category",
        operation_id="list_categories",
        summary="List categories, or the products of one",
        description=(
            "Lists the category names, or with `type` the products of that category. An unknown category has none."
        ),
        links=(link("list_categories", type="$response.body#/categories/0"),),
        responses=answer(CategoryList | ProductList, "Category names or products.", _CATEGORIES),
    )
    async def list_categories(category: Category = None) -> CategoryList | ProductList:
        if category is not None:
            return _product_list([product for product in bundled().values() if product.category == category])
        names = list(categories())
        return CategoryList(message=f"{len(names)} categories", categories=names)

    @group.get(
        "/catalog/products/{product_id:str}",
        operation_id="get_catalog_product",
        summary="Get a catalog product",
        description="The price is the one that a new order would have.",
        responses=answer(ProductAnswer, "The product.", _ONE),
        problems=(NotFound,),
    )
    async def get_product(product_id: ProductId) -> ProductAnswer:
        product = _find(product_id)
        return ProductAnswer(message=f"Product {product.id}", product=product)

    @get(
        "/catalog/images/{file_name:str}",
        include_in_schema=False,  # a picture for an ``img`` element, not for API clients
        cache_control=CacheControlHeader(public=True, max_age=_DAY_S),
        media_type="image/svg+xml",
    )
    async def get_picture(file_name: FileName) -> Response[str]:
        if not file_name.endswith(".svg"):
            raise NotFound("There is no such picture.")
        svg = picture(_find(file_name.removesuffix(".svg")))
        # An SVG that is opened as a page could run scripts. Ours has none, and this header makes sure.
        return Response(svg, headers={"Content-Security-Policy": "default-src 'none'"})

    return [list_products, list_categories, get_product, get_picture]


def _find(product_id: str) -> Product:
    product = bundled().get(int(product_id)) if _NUMBER.fullmatch(product_id) else None
    if product is None:
        raise NotFound("There is no product with this ID.")
    return product


def _product_list(products: list[Product]) -> ProductList:
    return ProductList(message=f"{len(products)} products", products=products)
