"""Settings of role shop."""

from typing import Annotated

import msgspec
from msgspec import Meta

from purveyor.settings import Origins, Url, origin_of, require_scheme


class ShopSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What the pages show of the shop."""

    shop_name: Annotated[str, Meta(description="name of the shop on its pages and in emails")] = "Purveyor"
    shop_contact: Annotated[str, Meta(description="email address for questions of customers; empty: none")] = ""
    shop_legal_url: Annotated[Url, Meta(description="URL of the legal notice; empty: none")] = Url()
    image_origins: Annotated[
        Origins, Meta(description="origins of product pictures, or *; empty: that of PRODUCTS_API")
    ] = Origins()
    products_api: Annotated[Url, Meta(description="base URL of the product API; empty: bundled catalog")] = Url()

    def __post_init__(self) -> None:
        require_scheme("SHOP_LEGAL_URL", self.shop_legal_url, "http", "https")

    @property
    def picture_origins(self) -> tuple[str, ...]:
        """The origins from which the pages load product pictures besides their own."""
        own = origin_of(self.products_api)
        return self.image_origins or ((own,) if own else ())
