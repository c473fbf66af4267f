"""Drives the client of openapi-python-client: ``python_client.py URL``."""

import json
import sys

from shop.api.accounts import register
from shop.api.orders import place_order
from shop.api.products import list_products
from shop.api.sessions import log_in
from shop.models import DraftLine, LoginBody, OrderBody, OrderView, ProblemBody, RegisterBody

from shop import AuthenticatedClient, Client

url, email, password = sys.argv[1], "python@example.com", "a long enough password"
visitor = Client(base_url=url)
account = register.sync(client=visitor, body=RegisterBody(email=email, password=password, name="Ada"))
tokens = log_in.sync(client=visitor, body=LoginBody(email=email, password=password))
products = list_products.sync(client=visitor, limit=1)
ada = AuthenticatedClient(base_url=url, token=tokens.access_token)

order = OrderBody(items=[DraftLine(product_id=products.products[0].id, quantity=2)])
first, again = (place_order.sync_detailed(client=ada, body=order, idempotency_key="key-1") for _ in range(2))
problem = place_order.sync(client=ada, body=OrderBody(items=[DraftLine(product_id=999_999_999, quantity=1)]))
assert isinstance(first.parsed, OrderView)
assert isinstance(problem, ProblemBody)
told = {
    "registered": account.email,
    "total": first.parsed.total_amount,
    "replayed": again.headers.get("Idempotent-Replayed"),
    "same_order": again.parsed == first.parsed,
    "problem": {
        "status": problem.status,
        "type": problem.type_,
        "pointers": [fault.pointer for fault in problem.errors],
    },
}
print(json.dumps(told))
