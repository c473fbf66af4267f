"""Role orders: placing orders at the catalogue's prices, and reading them."""
