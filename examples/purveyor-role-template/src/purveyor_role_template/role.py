"""Declaration and assembly of role tally."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import msgspec

from purveyor.kit.poll import regularly
from purveyor.kit.process.background import Background
from purveyor.kit.role import Actor, Check, Env, Role
from purveyor.roles.auth.client import Identity
from purveyor.roles.orders.contract import OrderCreated
from purveyor_role_template.contract import Tally, TallyOrders

_PURGE_EVERY_S = 3600.0


class TallySettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of role tally. Each name must be free, so begin it with the role's name."""

    tally_keep_days: Annotated[
        int, msgspec.Meta(ge=1, le=36500, description="days for which orders per day are kept")
    ] = 400


@asynccontextmanager
async def build(env: Env, settings: TallySettings) -> AsyncIterator[Actor]:
    """Start role tally. Heavy imports stand here, so that only processes that run the role pay for them."""
    from purveyor_role_template.routes import tally_routes
    from purveyor_role_template.store import TallyStore

    async with env.database() as database:
        store = TallyStore(database, settings.tally_keep_days)
        yield Actor(
            routes=tally_routes(store, env.port(Identity)),
            answers={TallyOrders: store.days},
            subscriptions={OrderCreated: store.count},
            background=[Background("purge", partial(regularly, _PURGE_EVERY_S, store.purge))],
            checks=[Check("postgres tally", env.database_kind, database.check)],
        )


ROLE = Role(
    name="tally",
    contract_version=1,
    serves="orders per day",
    settings=TallySettings,
    build=build,
    needs=(Identity,),
    offers=(Tally,),
    consumes={OrderCreated: "order.created.tally"},
    migrations=Path(__file__).with_name("migrations"),
    tags={"tally": "For staff: orders per day."},
)
