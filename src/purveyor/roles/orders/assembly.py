"""How role orders is put together: its stores, its use cases, its inlets."""

from functools import partial
from uuid import UUID

from purveyor.kit.db.postgres import Database
from purveyor.kit.events.outbox import Backlog, Outbox, Relay
from purveyor.kit.poll import regularly
from purveyor.kit.process.background import Background
from purveyor.kit.role import Actor, Check, Env
from purveyor.roles.auth.contract import Identity, UserErased, UserExportRequested
from purveyor.roles.email.contract import MailSettled
from purveyor.roles.orders.contract import AnnounceOrders, FindUnannounced, TraceOrder
from purveyor.roles.orders.live import Live, history_routes
from purveyor.roles.orders.privacy import PersonalData, PostgresPersons
from purveyor.roles.orders.products.client import Products
from purveyor.roles.orders.reconcile import Audit, PostgresAudits
from purveyor.roles.orders.role import OrdersSettings
from purveyor.roles.orders.routes import change_routes, list_routes, order_routes
from purveyor.roles.orders.routes_products import product_routes
from purveyor.roles.orders.service import Changes, Orders, Timelines
from purveyor.roles.orders.store import PostgresHistories, PostgresOrders

_PURGE_EVERY_S = 600.0


def assemble(env: Env, settings: OrdersSettings, database: Database, products: Products) -> Actor:
    """The actor, on a database that is open and products that can be asked for."""
    identity, currency, rate = env.port(Identity), settings.currency, settings.rate_limit_orders
    book, histories, persons = PostgresOrders(database), PostgresHistories(database), PostgresPersons(database)
    backlog = Backlog(
        "orders", max_events=settings.event_backlog_max_events, max_age_s=settings.event_backlog_max_age_s
    )
    relay = Relay(database, "orders", env.events, backlog)
    orders = Orders(
        book, products, identity, env.limiter, rate=rate, currency=currency, committed=relay.wake, backlog=backlog
    )
    live = Live(histories, identity, stopping=env.stopping)
    timelines = Timelines(histories, committed=live.wake)
    changes = Changes(book, committed=partial(_changed, relay, live))
    personal = PersonalData(persons, book, histories, committed=relay.wake)
    audit = Audit(book, PostgresAudits(database), committed=relay.wake)
    return Actor(
        routes=[
            *order_routes(orders, identity),
            *list_routes(orders, book, identity),
            *change_routes(changes, identity),
            *history_routes(timelines, live, identity),
            *product_routes(orders, currency),
        ],
        answers={TraceOrder: orders.trace, FindUnannounced: audit.find, AnnounceOrders: audit.announce},
        subscriptions={
            MailSettled: timelines.note_mail,
            UserErased: personal.erase,
            UserExportRequested: personal.export,
        },
        background=[
            Background("relay", relay.run),
            Background("live", live.run),
            Background("purge", partial(regularly, _PURGE_EVERY_S, book.purge, persons.sweep)),
        ],
        checks=_checks(env, settings, database, products, _backlog_check(env, relay, backlog)),
        outbox=Outbox(database, "orders"),
    )


def _checks(
    env: Env, settings: OrdersSettings, database: Database, products: Products, backlog: Check
) -> list[Check]:
    source = "external" if settings.products_api else "embedded"
    return [
        Check("postgres orders", env.database_kind, database.check),
        Check("products", source, products.check, required=False, setting="PRODUCTS_API"),
        backlog,
        *env.shared_checks,
    ]


def _backlog_check(env: Env, relay: Relay, backlog: Backlog) -> Check:
    async def count() -> str:
        if env.console:  # where no relay runs that would have counted them
            await relay.measure()
        return await backlog.check()

    return Check("event backlog", env.database_kind, count, required=env.console)


def _changed(relay: Relay, live: Live, order_id: UUID) -> None:
    relay.wake()
    live.wake(order_id)
