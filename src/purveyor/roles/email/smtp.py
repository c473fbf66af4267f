"""One connection to an SMTP server (RFC 5321), step by step: before the final dot all is certain, after it not."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, cast

from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPException, SMTPResponse, SMTPResponseException

from purveyor.kit.failpoints import failpoint
from purveyor.roles.email.ports import Doubtful, NotNow, Refused

Tls = Literal["none", "starttls", "implicit"]

_WANTS_AUTH = frozenset({530, 534, 535, 538})  # RFC 4954 section 6: about us, not about the mail
_OUT_OF_STEP = frozenset({421, 503})  # closing (RFC 5321 section 3.8), bad sequence: no use going on
_LONGEST_REPLY = 500


@dataclass(frozen=True)
class Target:
    """A server and how to talk to it. An empty ``user`` means no authentication."""

    host: str
    port: int
    tls: Tls
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Deadlines:
    """Absolute, in seconds: for a connection with its greeting, for each command, for the answer to the dot."""

    connect_s: float
    command_s: float
    dot_s: float


class AuthFailed(NotNow):
    """The server does not take our credentials, or wants some that we do not have."""


class ConnectionEnded(NotNow):
    """The connection had ended before this mail was begun: another may do."""


class SmtpConnection:
    """A greeted, secured and authenticated connection, for one mail at a time."""

    def __init__(self, smtp: SMTP, deadlines: Deadlines) -> None:
        self._smtp = smtp
        self._deadlines = deadlines
        self._in_step = True
        self._envelope_left = False
        self.mails = 0
        """How many were begun."""

    @classmethod
    async def open(cls, target: Target, tls: ssl.SSLContext, deadlines: Deadlines) -> "SmtpConnection":
        """Connect, greet, secure and authenticate; never falls back to plain text.

        Raises ``NotNow`` or ``AuthFailed``.
        """
        smtp = SMTP(
            hostname=target.host,
            port=target.port,
            use_tls=target.tls == "implicit",
            start_tls=False,  # explicit below: by itself the library would go on in plain text
            tls_context=tls,
            local_hostname="localhost",  # replaced below; without one the library asks the DNS
            timeout=None,  # bounded here, absolutely
        )
        connection = cls(smtp, deadlines)
        try:
            async with _certain("connecting", deadlines.connect_s):
                await smtp.connect()
                smtp.local_hostname = _client_name(smtp)
            await connection._greet(secure=target.tls == "starttls")
            if target.user:
                await connection._authenticate(target)
        except BaseException:
            connection.abort()
            raise
        return connection

    @property
    def usable(self) -> bool:
        """Whether it is open and between two mails."""
        return self._in_step and self._smtp.is_connected

    async def send(
        self, sender: str, recipient: str, message: bytes, before_dot: Callable[[], Awaitable[None]]
    ) -> str:
        """Hand one mail over; the reply. ``sender`` and ``recipient`` are ASCII addresses.

        Raises ``Refused``, ``NotNow``, ``AuthFailed``, ``ConnectionEnded``, ``Doubtful``, and what
        ``before_dot`` raises.
        """
        self.mails += 1
        self._in_step = False
        await self._begin(sender)
        await self._ask(b"RCPT", b"TO:<" + recipient.encode("ascii") + b">")
        await self._ask(b"DATA", positive=3)
        await before_dot()
        reply = await self._content(message)
        self._in_step = True
        return reply

    async def noop(self) -> None:
        """Ask for a sign of life. Raises ``NotNow``."""
        self._in_step = False
        await self._first(b"NOOP")
        self._in_step = True

    def quit(self) -> None:
        """End politely, without waiting for the answer."""
        if self._smtp.protocol is not None and self._smtp.is_connected:
            self._smtp.protocol.write(b"QUIT\r\n")
        self._smtp.close()

    def abort(self) -> None:
        """End at once: what the network has not taken yet never leaves."""
        if self._smtp.transport is not None:
            cast("asyncio.WriteTransport", self._smtp.transport).abort()
        self._smtp.close()

    async def _greet(self, *, secure: bool) -> None:
        async with _certain("EHLO", self._deadlines.command_s):
            await self._smtp.ehlo()
        if secure:
            async with _certain("STARTTLS", self._deadlines.command_s):
                await self._smtp.starttls()
            async with _certain("EHLO", self._deadlines.command_s):
                await self._smtp.ehlo()  # what was offered before TLS does not count (RFC 3207 section 4.2)

    async def _authenticate(self, target: Target) -> None:
        """One method, once: every further try would count towards a lock-out."""
        methods = {
            "plain": self._smtp.auth_plain,
            "login": self._smtp.auth_login,
            "cram-md5": self._smtp.auth_crammd5,
        }
        order = ("plain", "login", "cram-md5") if target.tls != "none" else ("cram-md5", "plain", "login")
        method = next((methods[name] for name in order if name in self._smtp.server_auth_methods), None)
        if method is None:
            raise AuthFailed("the server offers no AUTH that we know (PLAIN, LOGIN, CRAM-MD5)")
        try:
            async with _certain("AUTH", self._deadlines.command_s):
                await method(target.user.encode(), target.password.encode())
        except NotNow as error:
            cause = error.__cause__
            if isinstance(cause, SMTPAuthenticationError) and cause.code // 100 == 5:  # noqa: PLR2004 - 5xx
                raise AuthFailed(str(error)) from cause
            raise

    async def _begin(self, sender: str) -> None:
        if self._envelope_left:
            await self._first(b"RSET")
            self._envelope_left = False
        await self._first(b"MAIL", b"FROM:<" + sender.encode("ascii") + b">")

    async def _first(self, *words: bytes) -> None:
        """A command that a kept connection may meet its end at."""
        try:
            await self._ask(*words)
        except NotNow as error:
            if not self._smtp.is_connected:
                raise ConnectionEnded(str(error)) from error
            raise

    async def _ask(self, *words: bytes, positive: int = 2) -> None:
        async with _certain(words[0].decode(), self._deadlines.command_s):
            reply = await self._smtp.execute_command(*words)
        if reply.code // 100 != positive:
            raise self._refusal(reply)

    async def _content(self, message: bytes) -> str:
        """Write the message with its final dot, and read the answer.

        ``SMTP.data`` sends DATA as well, and so hides the moment before the dot; this uses the library's
        protocol instead, as that does: the answer is awaited before the loop can turn, so none is missed.
        """
        protocol = self._smtp.protocol
        if protocol is None or not protocol.is_connected:
            raise NotNow("the connection ended before the final dot")
        protocol.write(_with_dot(message))
        failpoint("smtp.dot_written")
        try:
            async with asyncio.timeout(self._deadlines.dot_s):
                reply = await protocol.read_response()
        except TimeoutError as error:
            raise Doubtful(f"no answer to the final dot within {self._deadlines.dot_s:g} s") from error
        except (SMTPException, OSError) as error:
            raise Doubtful(f"after the final dot: {_one_line(str(error))}") from error
        match reply.code // 100:
            case 2:
                return _text(reply)
            case 4 | 5:
                raise self._refusal(reply)
        raise Doubtful(f"not an answer to the final dot: {_text(reply)}")

    def _refusal(self, reply: SMTPResponse) -> NotNow | Refused:
        """What a negative answer means; the connection stays usable where the server has only refused."""
        refused = reply.code // 100 in (4, 5) and reply.code not in _OUT_OF_STEP
        self._in_step = self._envelope_left = refused
        if reply.code in _WANTS_AUTH:
            return AuthFailed(_text(reply))
        if refused and reply.code // 100 == 5:  # noqa: PLR2004 - 5xx
            return Refused(_text(reply))
        return NotNow(_text(reply))


@asynccontextmanager
async def _certain(step: str, within_s: float) -> AsyncIterator[None]:
    """Bound a step before the dot; whatever goes wrong in it, the mail was not sent."""
    try:
        async with asyncio.timeout(within_s):
            yield
    except TimeoutError as error:
        raise NotNow(f"{step}: no answer within {within_s:g} s") from error
    except SMTPResponseException as error:
        raise NotNow(f"{step}: {error.code} {_one_line(error.message)}") from error
    except (SMTPException, OSError) as error:
        raise NotNow(f"{step}: {_one_line(str(error))}") from error


def _client_name(smtp: SMTP) -> str:
    """What to say in EHLO (RFC 5321 section 4.1.4): this host's full name, else its address as a literal."""
    name = socket.gethostname()
    if "." in name and name.isascii():
        return name
    address = str(smtp.get_transport_info("sockname")[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _with_dot(message: bytes) -> bytes:
    """The message as it is sent after the 354: CRLF throughout, dots doubled, the end (RFC 5321 section 4.5.2)."""
    lines = re.sub(rb"\r\n|\r|\n", b"\r\n", message)
    if not lines.endswith(b"\r\n"):
        lines += b"\r\n"
    return re.sub(rb"(?m)^\.", b"..", lines) + b".\r\n"


def _text(reply: SMTPResponse) -> str:
    return f"{reply.code} {_one_line(reply.message)}"


def _one_line(text: str) -> str:
    """Fit for a log and for any database: no line ends, no NUL, no stray bytes."""
    return "".join(character if character.isprintable() else " " for character in text)[:_LONGEST_REPLY].strip()
