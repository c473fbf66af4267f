"""The storefront and the order desk in a real browser."""
