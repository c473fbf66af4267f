"""Where products and prices come from."""
