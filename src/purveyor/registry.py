"""The available roles and event transports, one line each, and those of installed packages."""

from purveyor.kit.role import by_name
from purveyor.plugins import with_installed
from purveyor.roles.auth.role import ROLE as AUTH
from purveyor.roles.catalog.role import ROLE as CATALOG
from purveyor.roles.email.role import ROLE as EMAIL
from purveyor.roles.orders.role import ROLE as ORDERS
from purveyor.roles.shop.role import ROLE as SHOP
from purveyor.transports.kafka import OUTLET as KAFKA
from purveyor.transports.nats import TRANSPORT as NATS
from purveyor.transports.postgres import TRANSPORT as POSTGRES
from purveyor.transports.rabbitmq import TRANSPORT as RABBITMQ

_ROLES, TRANSPORTS = with_installed(
    roles=(AUTH, ORDERS, EMAIL, CATALOG, SHOP),
    transports=(RABBITMQ, NATS, POSTGRES),  # in the order in which they are looked at
)
ROLES = by_name(*_ROLES)
OUTLET = KAFKA
