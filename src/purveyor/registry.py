"""The available roles and event transports, one line each."""

from purveyor.kit.role import by_name
from purveyor.roles.auth.role import ROLE as AUTH
from purveyor.roles.catalog.role import ROLE as CATALOG
from purveyor.roles.email.role import ROLE as EMAIL
from purveyor.roles.orders.role import ROLE as ORDERS
from purveyor.roles.shop.role import ROLE as SHOP
from purveyor.transports.nats import TRANSPORT as NATS
from purveyor.transports.postgres import TRANSPORT as POSTGRES
from purveyor.transports.rabbitmq import TRANSPORT as RABBITMQ

ROLES = by_name(AUTH, ORDERS, EMAIL, CATALOG, SHOP)

TRANSPORTS = (RABBITMQ, NATS, POSTGRES)
"""In the order in which they are looked at."""
