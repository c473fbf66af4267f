"""Broken on purpose: the statement that changes an order does not compare its version."""

import sys

from purveyor.cli import main
from purveyor.roles.orders import store

store._CHANGE = store._CHANGE.replace("and version = $2", "and $2::int is not null")
sys.exit(main())
