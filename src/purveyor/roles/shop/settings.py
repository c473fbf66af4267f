"""Settings of role shop."""

from typing import Annotated

from msgspec import Meta

from purveyor.settings import Origins, Url, origin_of
from purveyor.shop_details import ShopDetails


class ShopSettings(ShopDetails, frozen=True, kw_only=True):
    """Settings of the shop's pages."""

    image_origins: Annotated[
        Origins, Meta(description="origins of product pictures, or *; empty: that of PRODUCTS_API")
    ] = Origins()
    products_api: Annotated[Url, Meta(description="base URL of the product API; empty: bundled catalog")] = Url()

    @property
    def picture_origins(self) -> tuple[str, ...]:
        """The origins from which the pages load product pictures besides their own."""
        own = origin_of(self.products_api)
        return self.image_origins or ((own,) if own else ())
