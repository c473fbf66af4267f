"""The use cases of accounts: profiles, addresses, access levels."""

from collections.abc import Callable, Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from purveyor.kit import security_log
from purveyor.kit.caller import CONSOLE
from purveyor.kit.clock import now
from purveyor.kit.errors import Faults, Forbidden, NotFound
from purveyor.kit.ids import new_id
from purveyor.kit.text import clean_phone
from purveyor.roles.auth import model
from purveyor.roles.auth.admission import Admission
from purveyor.roles.auth.confirmation import ConfirmationToken
from purveyor.roles.auth.contract import (
    Account,
    Address,
    GetAddress,
    GetProfile,
    OpenAccount,
    Principal,
    Profile,
    SetAccess,
    UserRegistered,
)
from purveyor.roles.auth.model import NO_ACCOUNT, StoredAddress, User, UserFilter, about, parsed_id, visible
from purveyor.roles.auth.passwords import Passwords, Work
from purveyor.roles.auth.sessions import Sessions
from purveyor.roles.auth.store import AccountStore, AddressStore

_ENGLISH = "en"
_NO_ADDRESS = "There is no such address."


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """The input for a new account."""

    email: str
    password: str
    name: str
    phone: str = ""
    language: str = ""


class Auth:
    """Accounts, profiles and addresses. ``committed`` is called after an event was stored and wakes the relay."""

    def __init__(
        self,
        accounts: AccountStore,
        addresses: AddressStore,
        passwords: Passwords,
        sessions: Sessions,
        *,
        admission: Admission,
        password_min_length: int,
        committed: Callable[[], None],
    ) -> None:
        self._admission = admission
        self._accounts = accounts
        self._addresses = addresses
        self._passwords = passwords
        self._sessions = sessions
        self._password_min_length = password_min_length
        self._committed = committed

    async def register(self, registration: Registration, access: str = "customer", *, network: str | None) -> User:
        """Create an account; without a network it is the operator's, and its address counts as confirmed.

        Raises ``InvalidInput``, ``TooManyRequests`` and ``EmailTaken``.
        """
        faults = Faults()
        with faults:
            email = model.normal_email(registration.email)
        with faults:
            name = model.clean_name(registration.name)
        with faults:
            phone = clean_phone(registration.phone)
        with faults:
            language = model.clean_language(registration.language or _ENGLISH)
        with faults:
            model.check_password(registration.password, self._password_min_length)
        faults.raise_if_any()
        if network is not None:
            await self._admission.admit("register", network)
        user = User(
            id=new_id(),
            email=email,
            name=name,
            phone=phone,
            language=language,
            access=access,
            created_at=now(),
            email_confirmed=network is None,
        )
        token = None if user.email_confirmed else ConfirmationToken()
        event = UserRegistered(
            user_id=str(user.id),
            user_email=user.email,
            user_name=user.name,
            recipient_confirmed=user.email_confirmed,
            confirmation_token=token.text if token else "",
        )
        password_hash = await self._passwords.hash(registration.password, Work.REGISTRATION)
        await self._accounts.add(user, password_hash, about(user, event), token)
        self._committed()
        return user

    async def profile(self, caller: Principal, user_id: str) -> tuple[User, Sequence[StoredAddress]]:
        """A user's profile, for that user and for staff. For others it does not exist."""
        target = visible(caller, user_id, to="staff")
        return await self._accounts.get(target), await self._addresses.all(target)

    async def change_profile(
        self, caller: Principal, user_id: str, *, name: str | None, phone: str | None, language: str | None
    ) -> User:
        """Change the caller's own profile. Members that are ``None`` stay; an empty language is English."""
        faults = Faults()
        with faults:
            name = None if name is None else model.clean_name(name)
        with faults:
            phone = None if phone is None else clean_phone(phone)
        with faults:
            language = None if language is None else model.clean_language(language or _ENGLISH)
        faults.raise_if_any()
        return await self._accounts.update(visible(caller, user_id), name=name, phone=phone, language=language)

    async def users(
        self, caller: Principal, wanted: UserFilter, after: UUID | None, limit: int
    ) -> tuple[Sequence[User], UUID | None]:
        """A page of accounts, newest first, and the next cursor."""
        if not caller.is_staff:
            raise Forbidden("Only staff may list users.")
        found = await self._accounts.list(wanted, after, limit + 1)
        page = found[:limit]
        return page, page[-1].id if len(found) > limit else None

    async def change_access(
        self, caller: Principal, user_id: str, access: str | None, *, blocked: bool | None = None
    ) -> User:
        """Change a user's access level, or block or unblock them, as an admin. ``None`` keeps a value.

        Raises ``NotFound``, ``LastAdmin``.
        """
        if not caller.is_admin:
            raise Forbidden("Only admins may change roles and block users.")
        user = await self._accounts.change_access(parsed_id(user_id, NO_ACCOUNT), access, blocked=blocked)
        await self._sessions.heed_revocations()
        _log_access(user, caller.user_id)
        return user

    async def open_account(self, ask: OpenAccount) -> Account:
        """Answer ``OpenAccount``."""
        registration = Registration(email=ask.email, password=ask.password, name=ask.name)
        return _account(await self.register(registration, ask.access, network=None))

    async def set_access(self, ask: SetAccess) -> Account:
        """Answer ``SetAccess``."""
        try:
            user = await self._accounts.set_access(model.normal_email(ask.email), ask.access)
        except NotFound as error:
            raise NotFound(f"There is no account with the email address {ask.email}.") from error
        _log_access(user, CONSOLE)
        return _account(user)

    async def addresses(self, caller: Principal, user_id: str) -> Sequence[StoredAddress]:
        """All addresses of a user, oldest first."""
        return await self._addresses.all(visible(caller, user_id, to="staff"))

    async def address(self, caller: Principal, user_id: str, address_id: str) -> StoredAddress:
        return await self._addresses.get(visible(caller, user_id, to="staff"), parsed_id(address_id, _NO_ADDRESS))

    async def add_address(
        self, caller: Principal, user_id: str, address: Address, *, is_default: bool
    ) -> StoredAddress:
        stored = _to_store(new_id(), address, now(), is_default=is_default)
        return await self._addresses.save(visible(caller, user_id), stored, new=True)

    async def replace_address(
        self, caller: Principal, user_id: str, address_id: str, address: Address, *, is_default: bool
    ) -> StoredAddress:
        """Replace all members of an address."""
        stored = _to_store(parsed_id(address_id, _NO_ADDRESS), address, now(), is_default=is_default)
        return await self._addresses.save(visible(caller, user_id), stored, new=False)

    async def remove_address(self, caller: Principal, user_id: str, address_id: str) -> None:
        """Delete an address. Orders keep their copy."""
        await self._addresses.remove(visible(caller, user_id), parsed_id(address_id, _NO_ADDRESS))

    async def answer_profile(self, ask: GetProfile) -> Profile:
        """Answer ``GetProfile``."""
        token = self._sessions.read(ask.token)
        if str(token.user_id) != ask.user_id and token.holder.access not in ("staff", "admin"):
            raise NotFound(NO_ACCOUNT)
        user = await self._accounts.get(parsed_id(ask.user_id, NO_ACCOUNT))
        return Profile(
            email=user.email, name=user.name, language=user.language, email_confirmed=user.email_confirmed
        )

    async def answer_address(self, ask: GetAddress) -> Address:
        """Answer ``GetAddress``."""
        holder = self._sessions.read(ask.token).user_id
        if str(holder) != ask.user_id:
            raise NotFound(_NO_ADDRESS)
        found = await self._addresses.get(holder, parsed_id(ask.address_id, _NO_ADDRESS))
        members = msgspec.structs.asdict(found)
        return Address(**{name: members[name] for name in Address.__struct_fields__})


def _to_store(address_id: UUID, address: Address, created_at: datetime, *, is_default: bool) -> StoredAddress:
    members = msgspec.structs.asdict(address)
    return StoredAddress(id=address_id, **members, is_default=is_default, created_at=created_at)


def _log_access(user: User, actor: str) -> None:
    security_log.record(
        "access.changed", subject=str(user.id), actor=actor, access=user.access, blocked=user.blocked
    )


def _account(user: User) -> Account:
    return Account(id=str(user.id), email=user.email, name=user.name, access=user.access)
