"""Role orders: orders from placing to delivery, at the catalog's prices."""
