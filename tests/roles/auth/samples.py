"""What the tests of role auth share: the role's use cases over a real database, people, and their sessions."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from argon2 import extract_parameters

from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database
from purveyor.kit.events.message import Envelope, Event
from purveyor.kit.ids import new_id
from purveyor.kit.limits.memory import Backoff, MemoryBackoff, MemoryLimiter, Rate
from purveyor.roles.auth.admission import Admission
from purveyor.roles.auth.contract import Address, Principal, UserRegistered
from purveyor.roles.auth.email_addresses import EmailAddresses, EmailStore
from purveyor.roles.auth.model import User, about
from purveyor.roles.auth.password_changes import PasswordChanges, PasswordStore
from purveyor.roles.auth.passwords import Passwords
from purveyor.roles.auth.privacy import PersonalDataStore, Privacy
from purveyor.roles.auth.revocations import Revocations, RevocationStore
from purveyor.roles.auth.service import Auth, Registration
from purveyor.roles.auth.sessions import Sessions, SessionStore, TokenPair
from purveyor.roles.auth.store import AccountStore, AddressStore
from purveyor.roles.auth.throttle import Throttle
from purveyor.roles.auth.tokens import RefreshChain, Tokens

E = TypeVar("E", bound=Event)

PASSWORD, NEW_PASSWORD = "correct horse", "a whole new password"
SECRET = "a secret of at least thirty-two bytes"
LIFETIME_S = 600
HERE = "192.0.2.1"
HOME = Address(recipient="Ada", line1="1 High Street", city="Berlin", postal_code="10115", country="DE")
GENEROUS = Rate(1000, 60)


class Wakes:
    """Counts how often the relay was woken."""

    count = 0

    def __call__(self) -> None:
        self.count += 1


class Stores:
    """Every store of the role, on one database."""

    def __init__(self, database: Database) -> None:
        self.accounts = AccountStore(database, LIFETIME_S)
        self.addresses = AddressStore(database)
        self.sessions = SessionStore(database, LIFETIME_S)
        self.passwords = PasswordStore(database, LIFETIME_S)
        self.emails = EmailStore(database, LIFETIME_S)
        self.data = PersonalDataStore(database, LIFETIME_S)
        self.revocations = RevocationStore(database)


class CountingHasher:
    """Counts the hashes that are computed to compare with a password."""

    def __init__(self, passwords: Passwords) -> None:
        self._hasher = passwords._hasher
        self.compared: list[object] = []
        """What each cost: the parameters."""

    def verify(self, stored: str, password: str) -> bool:
        self.compared.append(extract_parameters(stored))
        return self._hasher.verify(stored, password)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._hasher, name)


class Process:
    """The use cases as one process has them; several on one database are several processes."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        rate: Rate = GENEROUS,
        *,
        backoff: Backoff | None = None,
        public_rate: Rate = GENEROUS,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self.database = database
        self.stores = Stores(database)
        self.wakes = Wakes()
        self.revocations = Revocations(self.stores.revocations)
        self.tokens = Tokens(SECRET, LIFETIME_S)
        throttle = Throttle(MemoryLimiter(), backoff or MemoryBackoff(), rate)
        self.sessions = Sessions(
            self.stores.sessions,
            passwords,
            self.tokens,
            chain=RefreshChain(SECRET),
            throttle=throttle,
            revocations=self.revocations,
        )
        common: dict[str, Any] = {
            "admission": Admission(MemoryLimiter(), public_rate),
            "password_min_length": 8,
            "committed": self.wakes,
        }
        self.auth = Auth(self.stores.accounts, self.stores.addresses, passwords, self.sessions, **common)
        self.changes = PasswordChanges(self.stores.passwords, passwords, self.sessions, throttle, **common)
        self.emails = EmailAddresses(
            self.stores.emails,
            passwords,
            self.sessions,
            throttle,
            admission=Admission(MemoryLimiter(), public_rate),
            committed=self.wakes,
        )
        self.privacy = Privacy(
            self.stores.data,
            self.stores.accounts,
            self.stores.addresses,
            self.sessions,
            holders=("orders", "email"),
            committed=self.wakes,
            stopping=stopping,
        )

    async def registered(self, access: str = "customer", **members: str) -> User:
        """Somebody with an account."""
        given = {"email": fresh_email(), "password": PASSWORD, "name": "Ada Lovelace"} | members
        return await self.auth.register(Registration(**given), access, network=HERE)

    async def forget_password(self, email: str) -> None:
        """Ask for a reset token, and let it be sent."""
        await self.changes.forgot(email, HERE)
        await self.changes.send_tokens()

    async def logged_in(self, user: User, password: str = PASSWORD) -> TokenPair:
        """A session of theirs."""
        pair, _ = await self.sessions.log_in(user.email, password, HERE)
        return pair

    async def signed_in(self, user: User) -> Principal:
        """As the routes see them."""
        return await self.sessions.principal((await self.logged_in(user)).access_token)

    async def somebody(self, access: str = "customer") -> Principal:
        """Somebody new who has signed in."""
        return await self.signed_in(await self.registered(access))

    async def events(self, kind: type[E], user_id: object) -> Sequence[E]:
        """What waits in the outbox about a person."""
        rows = await self.database.fetch(
            "select body from auth.outbox where type = $1 and subject = $2 order by id", kind.type, str(user_id)
        )
        return [msgspec.json.decode(row["body"], type=kind) for row in rows]


def fresh_email() -> str:
    return f"{new_id().hex}@example.com"


def a_user(email: str = "", access: str = "customer") -> User:
    return User(
        id=new_id(),
        email=email or fresh_email(),
        name="Ada 'Lovelace'; --",
        phone="+49 30 1",
        language="de",
        access=access,
        created_at=now(),
    )


def welcome(user: User) -> Envelope:
    return about(user, UserRegistered(user_id=str(user.id), user_email=user.email, user_name=user.name))
