"""Which roles there are: one line each, nothing else."""

from purveyor.roles.auth.role import ROLE as AUTH
from purveyor.roles.catalog.role import ROLE as CATALOG
from purveyor.roles.email.role import ROLE as EMAIL
from purveyor.roles.orders.role import ROLE as ORDERS

ROLES = {role.name: role for role in (AUTH, ORDERS, EMAIL, CATALOG)}
