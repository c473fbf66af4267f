"""How the parts of role auth fit together."""

from functools import partial

import msgspec

from purveyor.kit.db.postgres import Database
from purveyor.kit.events.message import Event
from purveyor.kit.events.outbox import Outbox, Relay
from purveyor.kit.events.transport import Answers, EventHandler
from purveyor.kit.poll import regularly
from purveyor.kit.process.background import Background
from purveyor.kit.role import Actor, Check, Env
from purveyor.roles.auth.contract import (
    GetAddress,
    GetProfile,
    ListErasures,
    OpenAccount,
    SetAccess,
    VerifyToken,
)
from purveyor.roles.auth.password_changes import PasswordChanges, PostgresPasswords
from purveyor.roles.auth.passwords import Passwords
from purveyor.roles.auth.privacy import PostgresPersonalData, Privacy
from purveyor.roles.auth.revocations import PostgresRevocations, Revocations
from purveyor.roles.auth.role import AuthSettings
from purveyor.roles.auth.routes import auth_routes
from purveyor.roles.auth.service import Auth
from purveyor.roles.auth.sessions import PostgresSessions, Sessions
from purveyor.roles.auth.store import PostgresAccounts, PostgresAddresses
from purveyor.roles.auth.throttle import Throttle
from purveyor.roles.auth.tokens import RefreshChain, Tokens, development_secret
from purveyor.roles.email.contract import MailDataErased, MailDataExported
from purveyor.roles.orders.contract import OrderDataErased, OrderDataExported

_PURGE_EVERY_S = 300.0


class Stores(msgspec.Struct, frozen=True):
    """What keeps the role's rows."""

    accounts: PostgresAccounts
    addresses: PostgresAddresses
    sessions: PostgresSessions
    passwords: PostgresPasswords
    data: PostgresPersonalData
    revocations: PostgresRevocations

    @classmethod
    def on(cls, database: Database, token_lifetime_s: int) -> "Stores":
        """All of them on one database."""
        return cls(
            PostgresAccounts(database, token_lifetime_s),
            PostgresAddresses(database),
            PostgresSessions(database, token_lifetime_s),
            PostgresPasswords(database, token_lifetime_s),
            PostgresPersonalData(database, token_lifetime_s),
            PostgresRevocations(database),
        )


def assemble(env: Env, settings: AuthSettings, database: Database, passwords: Passwords) -> Actor:
    """The running role. Its events hold personal data and tokens: the outbox keeps none that is out."""
    secret = settings.jwt_secret.reveal() or development_secret(env.data_dir)
    lifetime_s, least = settings.access_token_lifetime_s, settings.password_min_length
    stores = Stores.on(database, lifetime_s)
    relay = Relay(database, "auth", env.events, forget=True)
    revocations = Revocations(stores.revocations)
    throttle = Throttle(env.limiter, env.backoff, settings.rate_limit_login)
    sessions = Sessions(
        stores.sessions,
        passwords,
        Tokens(secret, lifetime_s),
        chain=RefreshChain(secret),
        throttle=throttle,
        revocations=revocations,
    )
    auth = Auth(
        stores.accounts, stores.addresses, passwords, sessions, password_min_length=least, committed=relay.wake
    )
    changes = PasswordChanges(
        stores.passwords, passwords, sessions, throttle, password_min_length=least, committed=relay.wake
    )
    privacy = Privacy(
        stores.data, stores.accounts, stores.addresses, sessions, committed=relay.wake, stopping=env.stopping
    )
    purges = [store.purge for store in (stores.sessions, stores.revocations, stores.passwords, stores.data)]
    return Actor(
        routes=auth_routes(auth, sessions, changes, privacy),
        answers=_answers(auth, sessions, privacy),
        subscriptions=_subscriptions(privacy),
        background=[
            Background("relay", relay.run),
            Background("revocations", revocations.run),
            Background("purge", partial(regularly, _PURGE_EVERY_S, *purges)),
        ],
        checks=[Check("postgres auth", env.database_kind, database.check), *env.shared_checks],
        outbox=Outbox(database, "auth"),
    )


def _answers(auth: Auth, sessions: Sessions, privacy: Privacy) -> Answers:
    return {
        VerifyToken: sessions.verify,
        GetProfile: auth.answer_profile,
        GetAddress: auth.answer_address,
        OpenAccount: auth.open_account,
        SetAccess: auth.set_access,
        ListErasures: privacy.erasures,
    }


def _subscriptions(privacy: Privacy) -> dict[type[Event], EventHandler]:
    return {
        OrderDataErased: privacy.erased_by("orders"),
        MailDataErased: privacy.erased_by("email"),
        OrderDataExported: privacy.part_from("orders"),
        MailDataExported: privacy.part_from("email"),
    }
