"""The declaration of role auth."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from purveyor.kit.errors import ConfigError
from purveyor.kit.limits.memory import Rate
from purveyor.kit.role import Actor, Env, Role
from purveyor.roles.auth.contract import (
    Identity,
    PasswordResetRequested,
    UserErased,
    UserExportRequested,
    UserRegistered,
)
from purveyor.roles.email.contract import MailDataErased, MailDataExported
from purveyor.roles.orders.contract import OrderDataErased, OrderDataExported
from purveyor.settings import Secret

MIN_SECRET_BYTES = 32
"""RFC 7518 section 3.2: a key for HS256 has at least the size of the hash."""


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
    password_min_length: Annotated[int, Meta(ge=8, le=64, description="minimum length of passwords")] = 8


def check(settings: AuthSettings, production: bool) -> None:  # noqa: FBT001 - the signature of all roles' checks
    """A signing secret that is long enough, and in production one at all."""
    secret = settings.jwt_secret.reveal()
    if production and not secret:
        raise ConfigError("JWT_SECRET: must be set to at least 32 bytes when ENVIRONMENT=production.")
    if secret and len(secret.encode()) < MIN_SECRET_BYTES:
        raise ConfigError(f"JWT_SECRET: must have at least {MIN_SECRET_BYTES} bytes.")


@asynccontextmanager
async def build(env: Env, settings: AuthSettings) -> AsyncIterator[Actor]:
    """Start role auth."""
    from purveyor.roles.auth.assembly import assemble
    from purveyor.roles.auth.passwords import Passwords

    async with env.database() as database:
        passwords = Passwords()
        try:
            yield assemble(env, settings, database, passwords)
        finally:
            passwords.close()


ROLE = Role(
    name="auth",
    serves="accounts, sessions, access tokens, profiles, addresses, personal data",
    settings=AuthSettings,
    build=build,
    check=check,
    offers=(Identity,),
    emits=(UserRegistered, PasswordResetRequested, UserErased, UserExportRequested),
    consumes={
        OrderDataErased: "order_data.erased",
        MailDataErased: "mail_data.erased",
        OrderDataExported: "order_data.exported",
        MailDataExported: "mail_data.exported",
    },
    migrations=Path(__file__).with_name("migrations"),
)
