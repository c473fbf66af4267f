"""The bundled products: complete, distinct, and with prices that are exact amounts of money."""

import json
import subprocess
import sys
from decimal import Decimal
from importlib.resources import files
from typing import Any

import msgspec
import pytest

from purveyor.kit.money import from_major
from purveyor.roles.catalog.client import bundled, categories
from purveyor.roles.catalog.contract import Product

RAW: list[dict[str, Any]] = json.loads(
    files("purveyor.roles.catalog").joinpath("products.json").read_text("utf-8"), parse_float=Decimal
)
PRODUCTS = list(bundled().values())
MEMBERS = ["id", "title", "image", "price", "description", "brand", "model", "color", "category", "discount"]


def test_there_are_150_products_with_ids_from_1_in_order() -> None:
    assert list(bundled()) == list(range(1, 151))
    assert all(bundled()[number].id == number for number in bundled())


def test_every_product_has_exactly_the_members_of_the_shape() -> None:
    assert len(RAW) == 150
    assert all(list(item) == MEMBERS for item in RAW)


@pytest.mark.parametrize("member", ["title", "description"])
def test_no_text_is_used_twice(member: str) -> None:
    texts = [getattr(product, member) for product in PRODUCTS]
    assert len(set(texts)) == 150


def test_texts_are_worth_reading() -> None:
    for product in PRODUCTS:
        assert (
            product.title == f"{product.brand} {product.model} {product.title.split(product.model, 1)[1].strip()}"
        )
        assert 40 <= len(product.description) <= 200, product.id
        assert product.description.endswith("."), product.id
        for text in (product.title, product.description, product.brand, product.model, product.color):
            assert text == text.strip()
            assert text.isprintable()


def test_prices_are_the_exact_decimals_of_the_file() -> None:
    assert [product.price for product in PRODUCTS] == [Decimal(item["price"]) for item in RAW]
    assert all(type(product.price) is Decimal for product in PRODUCTS)
    assert all(from_major(product.price, "EUR") >= 1 for product in PRODUCTS)


def test_many_prices_are_not_whole() -> None:
    broken = [product for product in PRODUCTS if product.price % 1]
    assert 50 <= len(broken) <= 140


def test_discounts_are_whole_percentages_up_to_30() -> None:
    assert all(0 <= product.discount <= 30 for product in PRODUCTS)
    assert any(product.discount for product in PRODUCTS)


def test_every_image_is_the_path_of_the_product() -> None:
    assert all(product.image == f"/catalog/images/{product.id}.svg" for product in PRODUCTS)


def test_categories_are_those_of_the_products_and_none_is_thin() -> None:
    sizes = {name: sum(product.category == name for product in PRODUCTS) for name in categories()}
    assert list(sizes) == sorted(sizes)
    assert sum(sizes.values()) == 150
    assert len(sizes) >= 8
    assert min(sizes.values()) >= 10


def test_the_first_products_are_the_ones_to_remember() -> None:
    prices = {number: str(bundled()[number].price) for number in (1, 2, 3)}
    assert prices == {1: "59.95", 2: "24.5", 3: "199"}


def test_the_catalogue_is_read_once_and_cannot_be_changed() -> None:
    assert bundled() is bundled()
    with pytest.raises(TypeError):
        bundled()[1] = bundled()[2]  # type: ignore[index]
    with pytest.raises(AttributeError):
        bundled()[1].price = Decimal(0)  # type: ignore[misc]


def test_members_that_a_product_does_not_know_are_ignored() -> None:
    product = msgspec.json.decode(json.dumps({**RAW[2], "price": 199, "onSale": True}), type=Product)
    assert product == bundled()[3]


def test_neither_the_contract_nor_the_declaration_loads_the_web_framework() -> None:
    code = (
        "import sys, purveyor.roles.catalog.client, purveyor.roles.catalog.role;"
        "sys.exit('litestar' in sys.modules)"
    )
    paths = [path for path in sys.path if path]
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}; {code}"], check=False)
    assert done.returncode == 0
