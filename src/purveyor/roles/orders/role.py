"""Declaration and assembly of role orders."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

from msgspec import Meta

from purveyor.kit.events.transport import Answers
from purveyor.kit.limits.memory import Rate
from purveyor.kit.poll import regularly
from purveyor.kit.process.background import Background
from purveyor.kit.role import Actor, Check, Env, HoldsPersonalData, Role
from purveyor.roles.auth.client import Identity
from purveyor.roles.auth.contract import UserErased, UserExportRequested
from purveyor.roles.email.contract import Email, MailSettled
from purveyor.roles.orders.contract import (
    ORDER_LINK,
    AnnounceOrders,
    FindUnannounced,
    OrderCancelled,
    OrderConfirmed,
    OrderCreated,
    OrderDataErased,
    OrderDataExported,
    OrderDelivered,
    OrderPaid,
    OrderRefunded,
    Orders,
    OrderShipped,
    TraceOrder,
)
from purveyor.settings import Url, require_scheme
from purveyor.shop_details import ShopDetails

if TYPE_CHECKING:  # heavy, and a declaration is read without starting anything
    from purveyor.kit.db.standby import Reads
    from purveyor.kit.events.outbox import Backlog, Outbox, Relay
    from purveyor.roles.orders.live import Live
    from purveyor.roles.orders.service import Orders as OrderUseCases
    from purveyor.roles.orders.service import Products, Reconciliation
    from purveyor.roles.orders.store import OrderStore

_PURGE_EVERY_S = 600.0
_LOOK_EVERY_S = 300.0
_MAILED = (
    *(OrderCreated, OrderConfirmed, OrderShipped, OrderDelivered, OrderCancelled),
    *(OrderPaid, OrderRefunded),
)


class OrdersSettings(ShopDetails, frozen=True, kw_only=True):
    """Settings of role orders."""

    products_api: Annotated[Url, Meta(description="base URL of the product API; empty: bundled catalog")] = Url()
    rate_limit_orders: Annotated[Rate, Meta(description="rate limit for placing orders, per user")] = Rate(60, 60)
    orders_read_database_url: Annotated[
        Url, Meta(description="a standby that lists, counts and exports are read from; empty: none")
    ] = Url()
    event_backlog_max_events: Annotated[
        int, Meta(ge=1, description="refuse new orders while this many events wait for the broker")
    ] = 100_000
    event_backlog_max_age_s: Annotated[
        float, Meta(gt=0, description="refuse new orders while an event has waited this many seconds")
    ] = 86_400.0


def check(settings: OrdersSettings, _production: bool) -> None:  # noqa: FBT001 - the signature of all roles' checks
    """Require a PostgreSQL URL for the standby."""
    require_scheme("ORDERS_READ_DATABASE_URL", settings.orders_read_database_url, "postgresql", "postgres")


@asynccontextmanager
async def build(env: Env, settings: OrdersSettings) -> AsyncIterator[Actor]:
    """Start role orders."""
    from purveyor.kit.db.standby import Reads
    from purveyor.roles.orders.products.bundled import BundledProducts

    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(env.database())
        standby = None
        if settings.orders_read_database_url:
            standby = await stack.enter_async_context(env.standby(settings.orders_read_database_url))
        products: Products = BundledProducts(settings.currency)
        if settings.products_api:
            from purveyor.roles.orders.products.client import ProductApi

            api = ProductApi(settings.products_api, settings.currency, shared=env.shared_cache)
            products = await stack.enter_async_context(aclosing(api))
        yield _assemble(env, settings, Reads(database, standby, schema="orders"), products)


def _assemble(env: Env, settings: OrdersSettings, reads: "Reads", products: "Products") -> Actor:
    """Connect stores, use cases and inlets."""
    from purveyor.kit.events.outbox import Backlog, Outbox, Relay
    from purveyor.kit.events.outlet import PostgresOutletQueue
    from purveyor.roles.orders import live, privacy, routes, routes_products, service, store, store_tickets

    identity, currency, database = env.port(Identity), settings.currency, reads.primary
    order_store, histories = store.OrderStore(database, reads), store.HistoryStore(database)
    persons, tickets = privacy.PersonalDataStore(database), store_tickets.LiveTickets(database)
    most, oldest_s = settings.event_backlog_max_events, settings.event_backlog_max_age_s
    backlog = Backlog("orders", max_events=most, max_age_s=oldest_s)
    relay = Relay(database, "orders", env.events, backlog, outlet=True)
    orders = service.Orders(
        order_store,
        products,
        identity,
        env.limiter,
        rate=settings.rate_limit_orders,
        currency=currency,
        committed=relay.wake,
        backlog=backlog,
    )
    streams = live.Live(histories, identity, stopping=env.stopping)
    timelines = service.Timelines(histories, committed=streams.wake)
    changed = partial(_changed, relay, streams)
    desk = _desk(reads, order_store, identity, settings, changed)
    personal = privacy.PersonalData(persons, order_store, histories, committed=relay.wake)
    checks, outbox = _checks(env, settings, products, relay, backlog), Outbox(database, "orders")
    purges = (order_store.purge, personal.sweep, tickets.purge)
    return Actor(
        routes=[
            *routes.order_routes(orders, identity),
            *routes.list_routes(orders, order_store, identity, ZoneInfo(settings.shop_time_zone)),
            *routes.change_routes(service.Changes(order_store, identity, committed=changed), identity),
            *live.history_routes(timelines, streams, tickets, identity),
            *_pages(env, settings, order_store),
            *routes_products.product_routes(orders, currency),
            *desk.routes,
        ],
        answers=_answers(orders, service.Reconciliation(order_store, committed=relay.wake)),
        subscriptions={
            MailSettled: timelines.note_mail,
            UserErased: personal.erase,
            UserExportRequested: personal.export,
        },
        background=[
            Background("relay", relay.run),
            Background("live", streams.run),
            Background("purge", partial(regularly, _PURGE_EVERY_S, *purges)),
            *desk.background,
            *_looks(env, outbox),
        ],
        checks=[Check("postgres orders", env.database_kind, database.check), *_standby_check(reads), *checks],
        outbox=outbox,
        outlet=PostgresOutletQueue(database, "orders"),
    )


def _answers(orders: "OrderUseCases", reconciliation: "Reconciliation") -> Answers:
    return {
        TraceOrder: orders.trace,
        FindUnannounced: reconciliation.find,
        AnnounceOrders: reconciliation.announce,
    }


def _desk(
    reads: "Reads",
    store: "OrderStore",
    identity: Identity,
    settings: OrdersSettings,
    changed: Callable[[UUID], None],
) -> Actor:
    """The part of the role that only the order desk uses."""
    from purveyor.roles.orders import bulk, figures, notes, undo
    from purveyor.roles.orders.routes_desk import desk_routes

    database = reads.primary
    jobs, undoing = (
        bulk.BulkJobs(database, store, identity, committed=changed),
        undo.Undo(database, store, committed=changed),
    )
    return Actor(
        routes=desk_routes(
            undoing,
            jobs,
            notes.Notes(database),
            figures.Figures(reads, settings.shop_time_zone, settings.currency),
            identity,
        ),
        background=[
            Background("bulk jobs", jobs.run),
            Background(
                "desk", partial(regularly, _PURGE_EVERY_S, store.search.complete, jobs.purge, undoing.purge)
            ),
        ],
    )


def _pages(env: Env, settings: OrdersSettings, store: "OrderStore") -> list[Any]:
    """The page of each order, for whoever has its link."""
    from purveyor.kit.link_tokens import LinkTokens
    from purveyor.roles.orders.order_page import OrderPages, page_routes

    links = LinkTokens(ORDER_LINK, *env.link_secrets())
    return page_routes(OrderPages(store, links, settings, env.public_url))


def _changed(relay: "Relay", streams: "Live", order_id: UUID) -> None:
    relay.wake()
    streams.wake(order_id)


def _looks(env: Env, outbox: "Outbox") -> list[Background]:
    """The regular look for published events that role email never recorded, where that role can be asked."""
    from purveyor.roles.orders.unaccounted import UnaccountedEvents

    if not env.can_ask(Email):
        return []
    mailed = [event.type for event in _MAILED]
    vanished = UnaccountedEvents(outbox, env.port(Email), env.events.dead_letters, mailed)
    return [Background("unaccounted events", partial(regularly, _LOOK_EVERY_S, vanished.look))]


def _checks(
    env: Env, settings: OrdersSettings, products: "Products", relay: "Relay", backlog: "Backlog"
) -> list[Check]:
    return [_products_check(settings, products), _backlog_check(env, relay, backlog), *env.shared_checks]


def _standby_check(reads: "Reads") -> list[Check]:
    if not reads.has_standby:
        return []
    return [Check("standby orders", "external", reads.check, required=False, setting="ORDERS_READ_DATABASE_URL")]


def _products_check(settings: OrdersSettings, products: "Products") -> Check:
    source = "external" if settings.products_api else "embedded"
    return Check("products", source, products.check, required=False, setting="PRODUCTS_API")


def _backlog_check(env: Env, relay: "Relay", backlog: "Backlog") -> Check:
    async def count() -> str:
        if env.console:  # no relay runs here to count them
            await relay.measure()
        return await backlog.check()

    return Check("event backlog", env.database_kind, count, required=env.console)


ROLE = Role(
    name="orders",
    serves="orders from placing to delivery, and the products that can be ordered",
    settings=OrdersSettings,
    build=build,
    check=check,
    needs=(Identity,),
    wants=(Email,),
    offers=(Orders,),
    personal_data=HoldsPersonalData(erased=OrderDataErased, exported=OrderDataExported),
    tags={
        "products": "Products that can be ordered, with current prices.",
        "orders": "Place, track and cancel orders; staff update and export them.",
        "order desk": "For staff: undo and correct changes, change many orders, notes and figures.",
    },
    emits=(
        OrderCreated,
        OrderConfirmed,
        OrderShipped,
        OrderDelivered,
        OrderCancelled,
        OrderPaid,
        OrderRefunded,
        OrderDataErased,
        OrderDataExported,
    ),
    consumes={
        MailSettled: "mail.settled",
        UserErased: "user.erased.orders",
        UserExportRequested: "user.export_requested.orders",
    },
    migrations=Path(__file__).with_name("migrations"),
)
