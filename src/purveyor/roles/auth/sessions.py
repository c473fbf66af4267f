"""Sessions: log in, refresh, log out, verify an access token."""

import hmac
import logging
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

import msgspec

from purveyor.kit import security_log
from purveyor.kit.clock import now
from purveyor.kit.db.postgres import Database
from purveyor.kit.errors import NotFound, TokenInvalid
from purveyor.kit.ids import new_id, parse_id
from purveyor.kit.limits.memory import Decision
from purveyor.roles.auth import model
from purveyor.roles.auth.client import principal_of
from purveyor.roles.auth.contract import (
    AccountBlocked,
    InvalidCredentials,
    Principal,
    RefreshTokenInvalid,
    VerifiedToken,
    VerifyToken,
)
from purveyor.roles.auth.model import Credentials, Holder, NewestToken, Session, visible
from purveyor.roles.auth.passwords import Passwords, Verdict, Work
from purveyor.roles.auth.revocations import AGAIN, EVERY_VERSION, LEEWAY_S, Revocations, end_sessions
from purveyor.roles.auth.store import USER_COLUMNS, user_of
from purveyor.roles.auth.throttle import Throttle
from purveyor.roles.auth.tokens import AccessToken, RefreshChain, RefreshToken, Tokens

log = logging.getLogger(__name__)
_LIFETIME = timedelta(days=30)


class TokenPair(msgspec.Struct, frozen=True, kw_only=True):
    """The tokens of a login (RFC 6749 section 5.1); ``expires_in`` is in seconds."""

    access_token: str
    token_type: str = "bearer"  # noqa: S105 - the scheme's name
    expires_in: int
    refresh_token: str


class Sessions:
    """The use cases of sessions. A session ends 30 days after the login, even if its tokens are refreshed."""

    def __init__(
        self,
        store: "SessionStore",
        passwords: Passwords,
        tokens: Tokens,
        *,
        chain: RefreshChain,
        throttle: Throttle,
        revocations: Revocations,
    ) -> None:
        self._store = store
        self._passwords = passwords
        self._tokens = tokens
        self._chain = chain
        self._throttle = throttle
        self._revocations = revocations

    async def log_in(
        self, email: str, password: str, network: str, device: str = ""
    ) -> tuple[TokenPair, Decision]:
        """Exchange a password for tokens; also returns how many attempts are left.

        ``network`` is the client's, ``device`` describes it. Raises ``InvalidCredentials``, after the same time
        whether or not the account exists, ``AccountBlocked`` for the right password of a blocked account, and
        ``TooManyLogins`` before any work is done.
        """
        account = model.account_name(email)
        async with self._throttle.attempt(account, network) as limit:
            pair = await self._checked(account, password, device)
            # The stored hash may have changed meanwhile, if only because another login renewed it.
            pair = pair or await self._checked(account, password, device)
            if pair is None:
                raise InvalidCredentials
        return pair, limit

    async def _checked(self, account: str, password: str, device: str) -> TokenPair | None:
        known = await self._store.find_credentials(account)
        verdict = await self._passwords.check(password, known.password_hash if known else None)
        if known is None or verdict is Verdict.WRONG:
            subject = str(known.user.id) if known else security_log.unknown_subject(account)
            security_log.record("login.failed", subject=subject)
            raise InvalidCredentials
        if known.user.blocked:
            raise AccountBlocked
        renewed = await self._passwords.hash(password, Work.LOGIN) if verdict is Verdict.OUTDATED else None
        token, moment = RefreshToken.first(new_id()), now()
        session = Session(
            id=token.session_id,
            created_at=moment,
            refreshed_at=moment,
            expires_at=moment + _LIFETIME,
            device=device,
        )
        holder = await self._store.open(session, token.hash, known, renewed)
        return None if holder is None else self._pair(holder, token)

    async def refresh(self, text: str) -> TokenPair:
        """Exchange a refresh token for a new pair.

        The previous token returns the same successor for another 10 s, because the answer may have been lost. Any
        older token may have been stolen and ends the session. Raises ``RefreshTokenInvalid``.
        """
        token = RefreshToken.parse(text)
        if token is None:
            raise RefreshTokenInvalid
        successor = self._chain.successor(token)
        holder = await self._store.rotate(token.session_id, token.generation, token.hash, successor.hash)
        return self._pair(holder or await self._again(token), successor)

    async def _again(self, token: RefreshToken) -> Holder:
        newest = await self._store.newest(token.session_id)
        if newest is None or not self._chain.leads_to(token, newest.generation, newest.refresh_hash):
            raise RefreshTokenInvalid
        if newest.recent and newest.generation == token.generation + 1:
            return newest.holder
        log.warning(
            "a refresh token was reused, its session has ended",
            extra={"user_id": str(newest.holder.user.id), "session_id": str(token.session_id)},
        )
        await self._store.end(token.session_id)
        await self._revocations.sync()
        raise RefreshTokenInvalid

    async def log_out(self, caller: Principal) -> None:
        """End the caller's session."""
        await self._store.end(self.read(caller.token).session_id)
        await self._revocations.sync()

    async def log_out_with(self, text: str) -> None:
        """End the session of a refresh token, also of an older one. Raises ``RefreshTokenInvalid``."""
        token = RefreshToken.parse(text)
        newest = None if token is None else await self._store.newest(token.session_id)
        if token is None or newest is None or not self._belongs(token, newest):
            raise RefreshTokenInvalid
        await self._store.end(token.session_id)
        await self._revocations.sync()

    def _belongs(self, token: RefreshToken, newest: NewestToken) -> bool:
        if hmac.compare_digest(token.hash, newest.refresh_hash):
            return True
        return self._chain.leads_to(token, newest.generation, newest.refresh_hash)

    async def list(self, caller: Principal, user_id: str) -> tuple[Sequence[Session], UUID]:
        """The sessions of a user, newest first, and which one the caller uses. Raises ``NotFound``."""
        found = await self._store.all(visible(caller, user_id, to="admin"))
        return found[::-1], self.read(caller.token).session_id

    async def end_one(self, caller: Principal, user_id: str, session_id: str) -> None:
        """End one session of a user. Raises ``NotFound``."""
        owner, found = visible(caller, user_id, to="admin"), parse_id(session_id)
        if found is None or not any(session.id == found for session in await self._store.all(owner)):
            raise NotFound("There is no such session.")
        await self._store.end(found)
        await self._revocations.sync()

    async def end_others(self, caller: Principal, user_id: str) -> None:
        """End all sessions of a user but the caller's own. Raises ``NotFound``."""
        await self._store.end_all(visible(caller, user_id, to="admin"), self.read(caller.token).session_id)
        await self._revocations.sync()

    async def heed_revocations(self) -> None:
        """Make ended sessions count in this process at once."""
        await self._revocations.sync()

    async def all(self, user_id: UUID) -> Sequence[Session]:
        """The account's sessions, oldest first."""
        return await self._store.all(user_id)

    def read(self, token: str) -> AccessToken:
        """Read and check an access token. Raises ``TokenInvalid``."""
        read = self._tokens.read(token)
        if self._revocations.cover(read):
            raise TokenInvalid
        return read

    async def verify(self, ask: VerifyToken) -> VerifiedToken:
        """Answer ``VerifyToken``, without database or network."""
        return self.read(ask.token).holder

    async def principal(self, token: str) -> Principal:
        """The holder of a token, for this role's own routes: without the client's cache."""
        return principal_of(self.read(token).holder, token)

    def _pair(self, holder: Holder, token: RefreshToken) -> TokenPair:
        return TokenPair(
            access_token=self._tokens.sign(holder.user, token.session_id, holder.token_version),
            expires_in=self._tokens.lifetime_s,
            refresh_token=str(token),
        )


class SessionStore:
    """Stores sessions. ``token_lifetime_s`` is the lifetime of an access token, in seconds."""

    def __init__(self, database: Database, token_lifetime_s: int) -> None:
        self._database = database
        self._token_lifetime_s = token_lifetime_s
        self._remember_s = token_lifetime_s + LEEWAY_S

    async def find_credentials(self, email: str) -> Credentials | None:
        """The account with this email address."""
        row = await self._database.fetchrow(
            f"select {USER_COLUMNS}, u.password_hash from auth.users u where u.email = $1",  # noqa: S608 - our columns
            email,
        )
        return None if row is None else Credentials(user_of(row), row["password_hash"])

    async def open(
        self, session: Session, refresh_hash: bytes, known: Credentials, new_password_hash: str | None
    ) -> Holder | None:
        """Store a login; ``None`` when the password is not the checked one any more.

        Deletes the expired sessions of the account.
        """
        # The lock serializes logins and password changes.
        row = await self._database.fetchrow(
            f"""
            with account as (
                select {USER_COLUMNS}, u.token_version from auth.users u
                where u.id = $1 and u.password_hash = $2 for no key update
            ), expired as (
                delete from auth.sessions where user_id = $1 and expires_at < now()
            ), rehashed as (
                update auth.users u set password_hash = $3 from account
                where u.id = account.id and $3::text is not null
            ), opened as (
                insert into auth.sessions (id, user_id, refresh_hash, created_at, expires_at, device)
                select $4, id, $5, $6, $7, $8 from account
            )
            select * from account""",  # noqa: S608 - our columns
            known.user.id,
            known.password_hash,
            new_password_hash,
            session.id,
            refresh_hash,
            session.created_at,
            session.expires_at,
            session.device,
        )
        return None if row is None else Holder(user_of(row), row["token_version"])

    async def rotate(self, session_id: UUID, generation: int, old_hash: bytes, new_hash: bytes) -> Holder | None:
        """Replace a refresh token by its successor; ``None`` unless it is the current one.

        Of concurrent calls only the first succeeds.
        """
        row = await self._database.fetchrow(
            f"""
            with rotated as (
                update auth.sessions set generation = generation + 1, refresh_hash = $4, refreshed_at = now()
                where id = $1 and generation = $2 and refresh_hash = $3 and expires_at > now()
                returning user_id
            )
            select {USER_COLUMNS}, u.token_version from rotated join auth.users u on u.id = user_id""",  # noqa: S608
            session_id,
            generation,
            old_hash,
            new_hash,
        )
        return None if row is None else Holder(user_of(row), row["token_version"])

    async def newest(self, session_id: UUID) -> NewestToken | None:
        """The current refresh token of a session that has not ended."""
        row = await self._database.fetchrow(
            f"""
            select s.generation, s.refresh_hash, s.refreshed_at > now() - interval '10 seconds' as recent,
                {USER_COLUMNS}, u.token_version
            from auth.sessions s join auth.users u on u.id = s.user_id
            where s.id = $1 and s.expires_at > now()""",  # noqa: S608 - our columns
            session_id,
        )
        if row is None:
            return None
        holder = Holder(user_of(row), row["token_version"])
        return NewestToken(holder, row["generation"], row["refresh_hash"], row["recent"])

    async def end(self, session_id: UUID) -> None:
        """End one session, and revoke its access tokens in the same transaction."""
        await self._database.execute(
            f"""
            with ended as (delete from auth.sessions where id = $1)
            insert into auth.revocations (id, version, expires_at)
            values ($1, {EVERY_VERSION}, now() + make_interval(secs => $2)) {AGAIN}""",  # noqa: S608 - constants
            session_id,
            self._remember_s,
        )

    async def end_all(self, user_id: UUID, kept: UUID) -> None:
        """End all sessions of an account but one."""
        async with self._database.transaction() as connection:
            await end_sessions(connection, user_id, self._token_lifetime_s, kept)

    async def all(self, user_id: UUID) -> Sequence[Session]:
        """The sessions of an account that have not expired, oldest first."""
        rows = await self._database.fetch(
            """
            select id, created_at, refreshed_at, expires_at, device from auth.sessions
            where user_id = $1 and expires_at > now() order by id""",
            user_id,
        )
        return [Session(**row) for row in rows]

    async def purge(self) -> int:
        """Delete the sessions that have expired."""
        return await self._database.purge("auth.sessions", "expires_at < now()")
