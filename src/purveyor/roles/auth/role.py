"""Declaration and assembly of role auth."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from purveyor.kit.errors import ConfigError
from purveyor.kit.events.message import Event
from purveyor.kit.events.transport import Answers, EventHandler
from purveyor.kit.limits.memory import Rate
from purveyor.kit.poll import regularly
from purveyor.kit.process.background import Background
from purveyor.kit.role import Actor, Check, Env, HoldsPersonalData, Role
from purveyor.roles.auth.client import AccountAdmin, Identity
from purveyor.roles.auth.contract import (
    EmailChanged,
    EmailConfirmationRequested,
    EmailConfirmed,
    GetAddress,
    GetProfile,
    ListErasures,
    OpenAccount,
    PasswordChanged,
    PasswordResetRequested,
    SetAccess,
    UserErased,
    UserExportRequested,
    UserRegistered,
    VerifyToken,
)
from purveyor.settings import Secret, require_strong

if TYPE_CHECKING:  # heavy, and a declaration is read without starting anything
    from purveyor.kit.db.postgres import Database
    from purveyor.kit.events.outbox import Relay
    from purveyor.roles.auth.password_changes import PasswordChanges
    from purveyor.roles.auth.passwords import Passwords
    from purveyor.roles.auth.privacy import Privacy
    from purveyor.roles.auth.revocations import Revocations
    from purveyor.roles.auth.service import Auth
    from purveyor.roles.auth.sessions import Sessions

_PURGE_EVERY_S = 300.0
_RESETS_EVERY_S = 1.0


class AuthSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of role auth."""

    jwt_secret: Annotated[
        Secret, Meta(description="key that signs access tokens, at least 32 bytes; required in production")
    ] = Secret()
    access_token_lifetime_s: Annotated[
        int, Meta(ge=60, le=600, description="lifetime of access tokens in seconds")
    ] = 600
    rate_limit_login: Annotated[Rate, Meta(description="sign-in attempts per network address and per account")] = (
        Rate(10, 60)
    )
    rate_limit_register: Annotated[
        Rate,
        Meta(description="registrations, password reset requests and password resets, each per network address"),
    ] = Rate(20, 60)
    password_min_length: Annotated[int, Meta(ge=8, le=64, description="minimum length of passwords")] = 8


def check(settings: AuthSettings, production: bool) -> None:  # noqa: FBT001 - the signature of all roles' checks
    """Require a signing secret in production, and enough bytes of it anywhere."""
    if production and not settings.jwt_secret:
        raise ConfigError("JWT_SECRET: must be set to at least 32 bytes when ENVIRONMENT=production.")
    require_strong("JWT_SECRET", settings.jwt_secret)


@asynccontextmanager
async def build(env: Env, settings: AuthSettings) -> AsyncIterator[Actor]:
    """Start role auth."""
    from purveyor.roles.auth.passwords import Passwords

    async with env.database() as database:
        passwords = Passwords()
        try:
            yield _assemble(env, settings, database, passwords)
        finally:
            passwords.close()


def _assemble(env: Env, settings: AuthSettings, database: "Database", passwords: "Passwords") -> Actor:
    """Connect stores, use cases and inlets."""
    from purveyor.kit.events.outbox import Outbox, Relay
    from purveyor.kit.events.outlet import PostgresOutletQueue
    from purveyor.roles.auth import (
        email_addresses,
        password_changes,
        privacy,
        revocations,
        routes,
        service,
        sessions,
        store,
        tokens,
    )
    from purveyor.roles.auth.admission import Admission
    from purveyor.roles.auth.throttle import Throttle

    secret = settings.jwt_secret.reveal() or tokens.development_secret(env.data_dir)
    lifetime_s, shortest = settings.access_token_lifetime_s, settings.password_min_length
    accounts, addresses = store.AccountStore(database, lifetime_s), store.AddressStore(database)
    logins = sessions.SessionStore(database, lifetime_s)
    resets = password_changes.PasswordStore(database, lifetime_s)
    personal = privacy.PersonalDataStore(database, lifetime_s)
    revoked = revocations.RevocationStore(database)
    relay = Relay(database, "auth", env.events, forget=True, outlet=True)  # they hold personal data and tokens
    known = revocations.Revocations(revoked)
    throttle = Throttle(env.limiter, env.backoff, settings.rate_limit_login)
    admission = Admission(env.limiter, settings.rate_limit_register)
    session = sessions.Sessions(
        logins,
        passwords,
        tokens.Tokens(secret, lifetime_s),
        chain=tokens.RefreshChain(secret),
        throttle=throttle,
        revocations=known,
    )
    common: dict[str, Any] = {"admission": admission, "password_min_length": shortest, "committed": relay.wake}
    auth = service.Auth(accounts, addresses, passwords, session, **common)
    changes = password_changes.PasswordChanges(resets, passwords, session, throttle, **common)
    holders, confirmations = env.personal_data, email_addresses.EmailStore(database, lifetime_s)
    emails = email_addresses.EmailAddresses(
        confirmations, passwords, session, throttle, admission=admission, committed=relay.wake
    )
    person = privacy.Privacy(
        personal, accounts, addresses, session, holders=holders, committed=relay.wake, stopping=env.stopping
    )
    purges = [each.purge for each in (logins, revoked, resets, confirmations, personal)]
    return Actor(
        routes=routes.auth_routes(auth, session, changes, emails, person),
        answers=_answers(auth, session, person),
        subscriptions=_subscriptions(person, holders),
        background=_background(relay, known, changes, purges),
        checks=[Check("postgres auth", env.database_kind, database.check), *env.shared_checks],
        outbox=Outbox(database, "auth"),
        outlet=PostgresOutletQueue(database, "auth"),
    )


def _background(
    relay: "Relay",
    known: "Revocations",
    changes: "PasswordChanges",
    purges: Sequence[Callable[[], Awaitable[object]]],
) -> list[Background]:
    return [
        Background("relay", relay.run),
        Background("revocations", known.run),
        Background("password resets", partial(regularly, _RESETS_EVERY_S, changes.send_tokens)),
        Background("purge", partial(regularly, _PURGE_EVERY_S, *purges)),
    ]


def _answers(auth: "Auth", session: "Sessions", person: "Privacy") -> Answers:
    return {
        VerifyToken: session.verify,
        GetProfile: auth.answer_profile,
        GetAddress: auth.answer_address,
        OpenAccount: auth.open_account,
        SetAccess: auth.set_access,
        ListErasures: person.erasures,
    }


def _subscriptions(person: "Privacy", holders: Mapping[str, HoldsPersonalData]) -> dict[type[Event], EventHandler]:
    erased = {holds.erased: person.erased_by(role) for role, holds in holders.items()}
    return erased | {holds.exported: person.part_from(role) for role, holds in holders.items()}


ROLE = Role(
    name="auth",
    serves="accounts, sessions, access tokens, profiles, addresses, personal data",
    settings=AuthSettings,
    build=build,
    check=check,
    secret=lambda settings: settings.jwt_secret.reveal(),
    offers=(Identity, AccountAdmin),
    tags={
        "accounts": "Create an account, read and update the profile.",
        "sessions": "Sign in, refresh tokens, sign out, verify a token.",
        "passwords": "Change a password, or reset it with a token sent by email.",
        "addresses": "The postal addresses of an account.",
        "privacy": "Export or erase the personal data of a user.",
        "staff": "For staff and admins: find users and change their roles.",
    },
    emits=(
        *(UserRegistered, EmailConfirmationRequested, EmailConfirmed, EmailChanged, PasswordResetRequested),
        *(PasswordChanged, UserErased, UserExportRequested),
    ),
    collects_personal_data=(UserErased, UserExportRequested),
    migrations=Path(__file__).with_name("migrations"),
)
