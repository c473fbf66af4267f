"""Schemathesis hook: the request bodies of links, which the served document leaves out for generated clients."""

from typing import Any

import schemathesis

_BODIES = {
    ("register", "log_in"): {"email": "$request.body#/email", "password": "$request.body#/password"},
    ("log_in", "verify_token"): {"token": "$response.body#/access_token"},
    ("log_in", "refresh_tokens"): {"refresh_token": "$response.body#/refresh_token"},
    ("refresh_tokens", "verify_token"): {"token": "$response.body#/access_token"},
    ("refresh_tokens", "refresh_tokens"): {"refresh_token": "$response.body#/refresh_token"},
    ("list_products", "place_order"): {"items": [{"product_id": "$response.body#/products/0/id", "quantity": 1}]},
    ("get_product", "place_order"): {"items": [{"product_id": "$response.body#/id", "quantity": 1}]},
}


@schemathesis.hook
def before_load_schema(context: object, raw_schema: dict[str, Any]) -> None:
    """Add each body to its link. A link that is gone is an error."""
    links = {
        (operation["operationId"], link["operationId"]): link
        for item in raw_schema["paths"].values()
        for operation in item.values()
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    }
    for place, body in _BODIES.items():
        links[place]["requestBody"] = body
