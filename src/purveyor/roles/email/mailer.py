"""SMTP mailer with a small connection pool."""

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from purveyor.kit.errors import ConfigError
from purveyor.kit.retry import RetrySchedule
from purveyor.roles.email.mime import ascii_address, sender_parts
from purveyor.roles.email.ports import Claim, NotNow, Refused
from purveyor.roles.email.smtp import AuthFailed, ConnectionEnded, Deadlines, SmtpConnection, Target, Tls

T = TypeVar("T")

log = logging.getLogger(__name__)

_SCHEMES: dict[str, tuple[Tls, int]] = {
    "smtp": ("none", 25),
    "smtps": ("implicit", 465),
    "smtp+starttls": ("starttls", 587),
}
_GMAIL = ("smtp.gmail.com", 587)
_MAILS_PER_CONNECTION = 100
_TAKEN_ON = 8
"""Mails claimed for each connection, so that none is idle during the next claim."""
_AUTH_PAUSE = RetrySchedule(first_s=5.0, longest_s=60.0, jitter=0.0)
_TLS_NAMES: dict[Tls, str] = {"none": "no TLS", "starttls": "STARTTLS", "implicit": "TLS"}


def smtp_target(smtp_url: str, email_user: str, email_pass: str) -> Target:
    """Return the server from the settings, which is Gmail without ``smtp_url``. Raises ``ConfigError``.

    Percent-encoded credentials in the URL take precedence over ``email_user`` and ``email_pass``.
    """
    if not smtp_url:
        if not (email_user and email_pass):
            raise ConfigError("EMAIL_PASS: Gmail needs EMAIL_USER and EMAIL_PASS. Set both, or set SMTP_URL.")
        return Target(*_GMAIL, "starttls", email_user, email_pass)
    url, port = _split(smtp_url)
    tls, default_port = _SCHEMES[url.scheme]
    user = unquote(url.username or "")
    password = unquote(url.password or "") or email_pass
    if user and not password:
        raise ConfigError("SMTP_URL: the URL has a user but no password. Add the password or set EMAIL_PASS.")
    if not user and email_pass:
        user = email_user
        if not user:
            raise ConfigError(
                "EMAIL_PASS: a password is set without a user. Set EMAIL_USER or a user in SMTP_URL."
            )
    return Target(url.hostname or "", port or default_port, tls, user, password if user else "")


def _split(smtp_url: str) -> tuple[SplitResult, int | None]:
    try:
        url = urlsplit(smtp_url)
        port = url.port
        (url.hostname or "").encode("idna")  # as the DNS lookup will do
    except ValueError:
        url, port = SplitResult("", "", "", "", ""), None
    known = url.scheme in _SCHEMES and url.hostname and port != 0
    if not known or " " in url.netloc or url.path not in ("", "/") or url.query or url.fragment:
        # Neither the URL nor the parser's message is shown: they may contain the password.
        raise ConfigError(
            "SMTP_URL: expected smtp://, smtps:// or smtp+starttls://[user:password@]host[:port]. "
            "Percent-encode special characters in user and password."
        )
    return url, port


class SmtpMailer:
    """``Mailer`` that sends over SMTP.

    Until a connection has succeeded, only one is opened at a time, and all waiting mails share its failure, which
    spares a server in trouble. Rejected credentials pause everything for 5 s to 60 s.
    """

    def __init__(
        self,
        target: Target,
        sender: str,
        *,
        ca_file: Path | None = None,
        connections: int = 8,
        connect_s: float = 10.0,
        command_s: float = 30.0,
        dot_s: float = 300.0,
        idle_s: float = 30.0,
    ) -> None:
        """``sender`` is ``Name <address>`` or an address; ``ca_file`` holds additional CA certificates (PEM).

        At most ``connections`` are used at a time. Further mails are claimed and wait for one.

        Raises ``ConfigError`` for the file and ``ValueError`` for the sender.
        """
        self.slots = connections * _TAKEN_ON
        self._free = asyncio.Semaphore(connections)
        self.server = f"SMTP server {target.host}:{target.port}"
        self._target = target
        _, self._sender = sender_parts(sender)
        self._tls = _tls(ca_file)
        self._deadlines = Deadlines(connect_s, command_s, dot_s)
        self._idle_s = idle_s
        self._idle: dict[SmtpConnection, float] = {}
        """Idle connections, with the event loop's time at which each became idle."""
        self._retiring: asyncio.TimerHandle | None = None
        self._opening = asyncio.Lock()
        self._proven = False
        self._failure = (float("-inf"), "")
        self._pause = _Pause()
        self._closed = False

    async def send(self, claim: Claim, before_dot: Callable[[], Awaitable[None]]) -> str:
        try:
            recipient = ascii_address(claim.recipient)
        except ValueError as error:
            raise Refused(str(error)) from error
        reply = await self._use(
            lambda connection: connection.send(self._sender, recipient, claim.message, before_dot)
        )
        self._pause.end()
        return reply

    async def check(self) -> str:
        await self._use(lambda connection: connection.noop())
        return f"{self.server} answers, {_TLS_NAMES[self._target.tls]}"

    def close(self) -> None:
        """Close idle connections now and the others after their current mail."""
        self._closed = True
        if self._retiring is not None:
            self._retiring.cancel()
        while self._idle:
            connection, _ = self._idle.popitem()
            connection.quit()

    async def _use(self, action: Callable[[SmtpConnection], Awaitable[T]]) -> T:
        """Run an action on an idle connection that is still open, or on a new one."""
        async with self._free:
            return await self._use_now(action)

    async def _use_now(self, action: Callable[[SmtpConnection], Awaitable[T]]) -> T:
        while True:
            self._pause.check()
            kept = self._take()
            connection = kept or await self._open()
            try:
                return await action(connection)
            except ConnectionEnded:
                if kept is None:
                    raise
            except AuthFailed as error:
                self._pause.begin(str(error))
                raise
            finally:
                self._give_back(connection)

    def _take(self) -> SmtpConnection | None:
        while self._idle:
            connection, _ = self._idle.popitem()  # the latest, so that the others can time out
            if connection.usable:
                return connection
        return None

    def _give_back(self, connection: SmtpConnection) -> None:
        if not connection.usable:
            connection.abort()
        elif self._closed or connection.mails >= _MAILS_PER_CONNECTION:
            connection.quit()
        else:
            self._idle[connection] = asyncio.get_running_loop().time()
            if self._retiring is None:
                self._retire()

    def _retire(self) -> None:
        """End the connections that were idle for too long, and run again when the next one is due."""
        loop = asyncio.get_running_loop()
        for connection, since in tuple(self._idle.items()):
            if loop.time() < since + self._idle_s:
                self._retiring = loop.call_at(since + self._idle_s, self._retire)
                return
            del self._idle[connection]
            connection.quit()
        self._retiring = None

    async def _open(self) -> SmtpConnection:
        if self._proven:
            return await self._open_now()
        asked_at = asyncio.get_running_loop().time()
        async with self._opening:
            failed_at, why = self._failure
            if failed_at > asked_at:
                raise NotNow(why)
            return await self._open_now()

    async def _open_now(self) -> SmtpConnection:
        try:
            connection = await SmtpConnection.open(self._target, self._tls, self._deadlines)
        except NotNow as error:
            self._proven = False
            self._failure = (asyncio.get_running_loop().time(), str(error))
            if isinstance(error, AuthFailed):
                self._pause.begin(str(error))
            raise
        self._proven = True
        return connection


class _Pause:
    """Pause after rejected credentials, since repeated attempts may lock the account."""

    def __init__(self) -> None:
        self._why = ""
        self._until = 0.0
        self._refusals = 0

    def begin(self, why: str) -> None:
        """Start a pause twice as long as the last one, unless one is running."""
        now = asyncio.get_running_loop().time()
        if now < self._until:
            return
        if not self._refusals:
            log.error("the SMTP server refuses our credentials; mails wait", extra={"reply": why})
        self._refusals += 1
        self._until, self._why = now + _AUTH_PAUSE.pause_s(self._refusals), why

    def end(self) -> None:
        if self._refusals:
            log.info("the SMTP server takes mails again")
        self._refusals, self._until = 0, 0.0

    def check(self) -> None:
        """Raise ``NotNow`` during a pause."""
        left_s = self._until - asyncio.get_running_loop().time()
        if left_s > 0:
            raise NotNow(
                f"paused for {left_s:.0f} s more, because the server refuses our credentials: {self._why}"
            )


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise ConfigError(f"SMTP_CA_FILE: {ca_file} has no readable PEM certificate ({error}).") from error
    return context
