"""The storefront and order desk at ``/``: pages for customers and staff, on nothing but the public API."""
