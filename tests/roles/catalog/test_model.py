"""The pictures: well-formed, safe to open, and there for every product."""

from xml.etree import ElementTree as ET

import msgspec
import pytest

from purveyor.roles.catalog.client import bundled, categories
from purveyor.roles.catalog.contract import Product
from purveyor.roles.catalog.model import GLYPHS, PAINTS, picture

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = {f"{SVG}{name}" for name in ("svg", "defs", "radialGradient", "stop", "g", "path", "rect", "circle")}
DRAWN |= {f"{SVG}{name}" for name in ("ellipse", "text")}


def lines(root: ET.Element) -> list[str]:
    return [element.text or "" for element in root.iter(f"{SVG}text")]


@pytest.mark.parametrize("product", bundled().values(), ids=lambda product: str(product.id))
def test_picture_is_a_closed_drawing_with_the_title(product: Product) -> None:
    root = ET.fromstring(picture(product))
    assert {element.tag for element in root.iter()} <= DRAWN
    names = {name for element in root.iter() for name in element.attrib}
    assert not any(name.startswith("on") or name.endswith(("href", "style", "src")) for name in names)
    assert root.get("aria-label") == product.title
    assert " ".join(lines(root)) == f"{product.title} {product.color}"
    assert max(map(len, lines(root))) <= 27, "wider than the picture"


def test_every_glyph_and_paint_is_used() -> None:
    assert sorted(GLYPHS) == list(categories())
    assert set(PAINTS) == {product.color for product in bundled().values()}


def test_the_colour_of_the_product_and_the_glyph_of_its_category_are_drawn() -> None:
    for product in bundled().values():
        svg = picture(product)
        assert PAINTS[product.color].body in svg
        assert GLYPHS[product.category] in svg


def test_markup_in_the_data_is_text() -> None:
    evil = """</text><script>"x" & 'y'</script> {wall}"""
    product = msgspec.structs.replace(bundled()[1], title=f"{evil} {evil} {evil}", brand=evil, model=evil)
    root = ET.fromstring(picture(product))
    assert {element.tag for element in root.iter()} <= DRAWN
    assert root.get("aria-label") == product.title
    assert lines(root) == [f"{evil} {evil}", evil, "navy"]
