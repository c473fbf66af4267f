"""The pictures: well-formed, safe to open, and there for every product."""

from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import pytest

from purveyor.roles.catalog import model
from purveyor.roles.catalog.client import bundled
from purveyor.roles.catalog.contract import Product
from purveyor.roles.catalog.model import KINDS, PAINTS, kind, picture

SVG = "{http://www.w3.org/2000/svg}"
DRAWN = {f"{SVG}{name}" for name in ("svg", "defs", "radialGradient", "stop", "g", "path", "rect", "circle")}
DRAWN |= {f"{SVG}ellipse"}


@pytest.mark.parametrize("product", bundled().values(), ids=lambda product: str(product.id))
def test_picture_is_a_closed_drawing_with_the_title(product: Product) -> None:
    root = ET.fromstring(picture(product))
    assert {element.tag for element in root.iter()} <= DRAWN
    names = {name for element in root.iter() for name in element.attrib}
    assert not any(name.startswith("on") or name.endswith(("href", "style", "src")) for name in names)
    assert root.get("aria-label") == product.title
    assert PAINTS[product.color].body in picture(product)
    assert "".join(root.itertext()).strip() == "", "letters"


def test_every_drawing_and_paint_is_used() -> None:
    drawn = {file.stem for file in (Path(model.__file__).parent / "pictures").iterdir()}
    assert drawn == set(KINDS.values()) == {kind(product) for product in bundled().values()}
    assert set(PAINTS) == {product.color for product in bundled().values()}


def test_every_ending_of_a_title_is_reached_by_a_product() -> None:
    reached = {
        next(ending for ending in KINDS if product.title.endswith(ending)) for product in bundled().values()
    }
    assert reached == set(KINDS)


def test_things_that_are_not_the_same_have_different_drawings() -> None:
    by_kind: dict[str, set[str]] = {}
    for product in bundled().values():
        by_kind.setdefault(kind(product), set()).add(product.category)
    assert {name: found for name, found in by_kind.items() if len(found) > 1} == {"keyboard": {"gaming", "laptop"}}
    assert kind(bundled()[22]) == "toaster"
    assert kind(bundled()[2]) == kind(bundled()[4]) == "kettle"


def test_product_without_a_drawing_is_an_error() -> None:
    with pytest.raises(LookupError, match="no drawing for 'Thing'"):
        picture(msgspec.structs.replace(bundled()[1], title="Thing"))


def test_markup_in_the_data_is_text() -> None:
    evil = """"></title><script>"x" & 'y'</script> {wall} Kettle"""
    product = msgspec.structs.replace(bundled()[1], title=evil)
    root = ET.fromstring(picture(product))
    assert {element.tag for element in root.iter()} <= DRAWN
    assert root.get("aria-label") == evil
