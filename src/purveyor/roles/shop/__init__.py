"""Role shop: the storefront and the order desk."""
