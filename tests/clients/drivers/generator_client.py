"""Drives the Python client of openapi-generator: ``generator_client.py URL``."""

import json
import sys

from shop.exceptions import UnprocessableEntityException

import shop

url, email, password = sys.argv[1], "generator@example.com", "a long enough password"
visitor = shop.ApiClient(shop.Configuration(host=url))
sessions = shop.SessionsApi(visitor)
account = shop.AccountsApi(visitor).register(shop.RegisterBody(email=email, password=password, name="Ada"))
tokens = sessions.log_in(shop.LoginBody(email=email, password=password))
products = shop.ProductsApi(visitor).list_products(limit=1)
orders = shop.OrdersApi(shop.ApiClient(shop.Configuration(host=url, access_token=tokens.access_token)))


def order(product_id: object) -> shop.OrderBody:
    """An order of two of one product, as JSON is read: its ID may be a number or a text."""
    return shop.OrderBody.from_dict({"items": [{"product_id": product_id, "quantity": 2}]})


wanted = order(products.to_dict()["products"][0]["id"])
first, again = (orders.place_order_with_http_info(wanted, idempotency_key="key-1") for _ in range(2))
try:
    orders.place_order(order(999_999_999))
except UnprocessableEntityException as error:
    problem = error.data
assert isinstance(problem, shop.ProblemBody)
told = {
    "registered": account.email,
    "total": first.data.total_amount,
    "replayed": again.headers.get("idempotent-replayed"),
    "same_order": again.data == first.data,
    "problem": {
        "status": problem.status,
        "type": problem.type,
        "pointers": [fault.pointer for fault in problem.errors],
    },
}
print(json.dumps(told))
