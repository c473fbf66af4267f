"""The use cases of role auth."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from purveyor.kit.clock import now
from purveyor.kit.errors import InvalidInput, NotFound
from purveyor.kit.ids import new_id, parse_id
from purveyor.kit.ratelimit import Limiter, Rate
from purveyor.kit.text import clean_phone
from purveyor.roles.auth import model
from purveyor.roles.auth.contract import (
    Account,
    Address,
    GetAddress,
    InvalidCredentials,
    OpenAccount,
    Principal,
    SetAccess,
    TooManyLogins,
    VerifiedToken,
    VerifyToken,
)
from purveyor.roles.auth.model import User
from purveyor.roles.auth.passwords import Passwords
from purveyor.roles.auth.ports import Accounts, StoredAddress
from purveyor.roles.auth.tokens import Tokens, new_refresh_token

_SESSION_LIFETIME = timedelta(days=30)


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody says of themselves to get an account."""

    email: str
    password: str
    name: str
    phone: str = ""
    language: str = "en"


class TokenPair(msgspec.Struct, frozen=True, kw_only=True):
    """What a login gives (RFC 6749 section 5.1); ``expires_in`` is in seconds."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105 - the scheme's name
    expires_in: int
    refresh_token: str


class Auth:
    """Accounts, tokens, profiles and addresses."""

    def __init__(
        self,
        accounts: Accounts,
        passwords: Passwords,
        tokens: Tokens,
        limiter: Limiter,
        *,
        login_rate: Rate,
        password_min_length: int,
    ) -> None:
        self._accounts = accounts
        self._passwords = passwords
        self._tokens = tokens
        self._limiter = limiter
        self._login_rate = login_rate
        self._password_min_length = password_min_length

    async def register(self, registration: Registration, access: str = "customer") -> User:
        """Open an account. Raises ``InvalidInput`` and ``EmailTaken``."""
        user = User(
            id=new_id(),
            email=model.normal_email(registration.email),
            name=model.clean_name(registration.name),
            phone=clean_phone(registration.phone),
            language=model.clean_language(registration.language),
            access=access,
            created_at=now(),
        )
        model.check_password(registration.password, self._password_min_length)
        await self._accounts.add(user, await self._passwords.hash(registration.password))
        return user

    async def log_in(self, email: str, password: str, network: str) -> TokenPair:
        """Exchange a password for tokens. ``network`` is where the attempt comes from.

        Raises ``InvalidCredentials`` (after the same time whether or not the account exists), and
        ``TooManyLogins`` before any work is done.
        """
        account = _account_name(email)
        for key in (f"account {account}", f"network {network}"):
            decision = await self._limiter.hit("login", key, self._login_rate)
            if not decision.allowed:
                raise TooManyLogins(f"Try again in {decision.reset_s} s.", headers=decision.headers())
        found = await self._accounts.find_credentials(account)
        right = await self._passwords.matches(password, found.password_hash if found else None)
        if found is None or not right:
            raise InvalidCredentials
        if self._passwords.is_outdated(found.password_hash):
            await self._accounts.set_password_hash(found.user.id, await self._passwords.hash(password))
        refresh_token, refresh_hash = new_refresh_token()
        moment = now()
        await self._accounts.add_session(new_id(), found.user.id, refresh_hash, moment, moment + _SESSION_LIFETIME)
        return TokenPair(
            access_token=self._tokens.sign(found.user),
            expires_in=self._tokens.lifetime_s,
            refresh_token=refresh_token,
        )

    async def verify(self, ask: VerifyToken) -> VerifiedToken:
        """Whose token it is; no database, no network. Raises ``TokenInvalid``."""
        return self._tokens.read(ask.token)

    async def profile(self, caller: Principal, user_id: str) -> tuple[User, Sequence[StoredAddress]]:
        """Somebody's profile, for themselves and for staff; for others it does not exist."""
        target = self._visible(caller, user_id, staff=True)
        return await self._accounts.get(target), await self._accounts.addresses(target)

    async def change_profile(
        self, caller: Principal, user_id: str, *, name: str | None, phone: str | None, language: str | None
    ) -> User:
        """Change one's own profile; members that are ``None`` stay."""
        return await self._accounts.update(
            self._visible(caller, user_id),
            name=None if name is None else model.clean_name(name),
            phone=None if phone is None else clean_phone(phone),
            language=None if language is None else model.clean_language(language),
        )

    async def open_account(self, ask: OpenAccount) -> Account:
        """See ``OpenAccount``."""
        registration = Registration(email=ask.email, password=ask.password, name=ask.name)
        return _account(await self.register(registration, ask.access))

    async def set_access(self, ask: SetAccess) -> Account:
        """See ``SetAccess``."""
        return _account(await self._accounts.set_access(model.normal_email(ask.email), ask.access))

    async def addresses(self, caller: Principal, user_id: str) -> Sequence[StoredAddress]:
        """Every address, oldest first."""
        return await self._accounts.addresses(self._visible(caller, user_id, staff=True))

    async def address(self, caller: Principal, user_id: str, address_id: str) -> StoredAddress:
        """One address."""
        return await self._accounts.address(self._visible(caller, user_id, staff=True), _id(address_id))

    async def add_address(
        self, caller: Principal, user_id: str, address: Address, *, is_default: bool
    ) -> StoredAddress:
        """Store a new address."""
        stored = _to_store(new_id(), address, now(), is_default=is_default)
        return await self._accounts.save_address(self._visible(caller, user_id), stored, new=True)

    async def replace_address(
        self, caller: Principal, user_id: str, address_id: str, address: Address, *, is_default: bool
    ) -> StoredAddress:
        """Replace an address as a whole."""
        stored = _to_store(_id(address_id), address, now(), is_default=is_default)
        return await self._accounts.save_address(self._visible(caller, user_id), stored, new=False)

    async def remove_address(self, caller: Principal, user_id: str, address_id: str) -> None:
        """Delete an address; orders that were sent there keep their copy."""
        await self._accounts.remove_address(self._visible(caller, user_id), _id(address_id))

    async def answer_address(self, ask: GetAddress) -> Address:
        """Answer another role's question for one of the token holder's addresses."""
        holder = self._tokens.read(ask.token)
        if str(holder.user_id) != ask.user_id:
            raise NotFound("There is no such address.")
        found = await self._accounts.address(_id(ask.user_id), _id(ask.address_id))
        return Address(**{name: getattr(found, name) for name in Address.__struct_fields__})

    @staticmethod
    def _visible(caller: Principal, user_id: str, *, staff: bool = False) -> UUID:
        if caller.user_id != user_id.lower() and not (staff and caller.is_staff):
            raise NotFound("There is no such account.")
        return _id(user_id)


def _account_name(email: str) -> str:
    """The address as it would be stored; what is no address at all belongs to no account."""
    try:
        return model.normal_email(email)
    except InvalidInput:
        return email.lower()


def _id(text: str) -> UUID:
    found = parse_id(text)
    if found is None:
        raise NotFound
    return found


def _to_store(address_id: UUID, address: Address, created_at: datetime, *, is_default: bool) -> StoredAddress:
    members = msgspec.structs.asdict(address)
    return StoredAddress(id=address_id, **members, is_default=is_default, created_at=created_at)


def _account(user: User) -> Account:
    return Account(id=str(user.id), email=user.email, name=user.name, access=user.access)
