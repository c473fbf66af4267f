"""Sources of products and prices."""
