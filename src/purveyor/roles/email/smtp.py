"""A connection to an SMTP server (RFC 5321) that knows whether a failure came before or after the final dot."""

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

_AUTH_CODES = frozenset({530, 534, 535, 538})  # RFC 4954 section 6: about our credentials, not the mail
_CLOSING_CODES = frozenset({421, 503})  # closing (RFC 5321 section 3.8), bad sequence of commands
_LONGEST_REPLY = 500


@dataclass(frozen=True)
class Target:
    """An SMTP server. An empty ``user`` means no authentication."""

    host: str
    port: int
    tls: Tls
    user: str = ""
    password: str = field(default="", repr=False)


@dataclass(frozen=True)
class Deadlines:
    """Time limits in seconds for connecting with the greeting, for each command, and for the reply to the dot."""

    connect_s: float
    command_s: float
    dot_s: float


class AuthFailed(NotNow):
    """The server rejected our credentials or requires some."""


class ConnectionEnded(NotNow):
    """The connection had ended before this mail; try another one."""


class SmtpConnection:
    """An authenticated connection, for one mail at a time."""

    def __init__(self, smtp: SMTP, deadlines: Deadlines) -> None:
        self._smtp = smtp
        self._deadlines = deadlines
        self._in_step = True
        self._needs_reset = False
        self.mails = 0
        """The number of mails started."""

    @classmethod
    async def open(cls, target: Target, tls: ssl.SSLContext, deadlines: Deadlines) -> "SmtpConnection":
        """Connect and authenticate, never falling back to plain text. Raises ``NotNow`` or ``AuthFailed``."""
        smtp = SMTP(
            hostname=target.host,
            port=target.port,
            use_tls=target.tls == "implicit",
            start_tls=False,  # explicit below; the library would fall back to plain text
            tls_context=tls,
            local_hostname="localhost",  # replaced below; avoids a DNS query of the library
            timeout=None,  # see Deadlines
        )
        connection = cls(smtp, deadlines)
        try:
            async with _before_dot("connecting", deadlines.connect_s):
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
        return self._in_step and self._smtp.is_connected

    async def send(
        self, sender: str, recipient: str, message: bytes, before_dot: Callable[[], Awaitable[None]]
    ) -> str:
        """Send a mail between ASCII addresses and return the reply.

        Raises ``Refused``, ``NotNow``, ``AuthFailed``, ``ConnectionEnded``, ``Doubtful``, and errors of
        ``before_dot``.
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
        self._in_step = False
        await self._first(b"NOOP")
        self._in_step = True

    def quit(self) -> None:
        """Send QUIT and close without waiting for the reply."""
        if self._smtp.protocol is not None and self._smtp.is_connected:
            self._smtp.protocol.write(b"QUIT\r\n")
        self._smtp.close()

    def abort(self) -> None:
        """Close at once, discarding unsent data."""
        if self._smtp.transport is not None:
            cast("asyncio.WriteTransport", self._smtp.transport).abort()
        self._smtp.close()

    async def _greet(self, *, secure: bool) -> None:
        async with _before_dot("EHLO", self._deadlines.command_s):
            await self._smtp.ehlo()
        if secure:
            async with _before_dot("STARTTLS", self._deadlines.command_s):
                await self._smtp.starttls()
            async with _before_dot("EHLO", self._deadlines.command_s):
                await self._smtp.ehlo()  # discards the extensions from before TLS (RFC 3207 section 4.2)

    async def _authenticate(self, target: Target) -> None:
        """Try one method once, since further attempts could lock the account."""
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
            async with _before_dot("AUTH", self._deadlines.command_s):
                await method(target.user.encode(), target.password.encode())
        except NotNow as error:
            cause = error.__cause__
            if isinstance(cause, SMTPAuthenticationError) and cause.code // 100 == 5:  # noqa: PLR2004 - 5xx
                raise AuthFailed(str(error)) from cause
            raise

    async def _begin(self, sender: str) -> None:
        if self._needs_reset:
            await self._first(b"RSET")
            self._needs_reset = False
        await self._first(b"MAIL", b"FROM:<" + sender.encode("ascii") + b">")

    async def _first(self, *words: bytes) -> None:
        """Run the first command of a mail; raise ``ConnectionEnded`` if the server has closed the connection."""
        try:
            await self._ask(*words)
        except NotNow as error:
            if not self._smtp.is_connected:
                raise ConnectionEnded(str(error)) from error
            raise

    async def _ask(self, *words: bytes, positive: int = 2) -> None:
        async with _before_dot(words[0].decode(), self._deadlines.command_s):
            reply = await self._smtp.execute_command(*words)
        if reply.code // 100 != positive:
            raise self._refusal(reply)

    async def _content(self, message: bytes) -> str:
        """Write the message with its final dot and read the reply.

        Uses the library's protocol directly, because ``SMTP.data`` sends DATA too and so hides the moment before
        the dot. The reply is awaited before the event loop runs again, so it cannot be missed.
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
        """Return the error for a negative reply. After a plain refusal the connection stays usable."""
        refused = reply.code // 100 in (4, 5) and reply.code not in _CLOSING_CODES
        self._in_step = self._needs_reset = refused
        if reply.code in _AUTH_CODES:
            return AuthFailed(_text(reply))
        if refused and reply.code // 100 == 5:  # noqa: PLR2004 - 5xx
            return Refused(_text(reply))
        return NotNow(_text(reply))


@asynccontextmanager
async def _before_dot(step: str, within_s: float) -> AsyncIterator[None]:
    """Limit the time of a step before the final dot, and raise its errors as ``NotNow``."""
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
    """Return the EHLO name (RFC 5321 section 4.1.4), which is the host's full name or its address literal."""
    name = socket.gethostname()
    if "." in name and name.isascii():
        return name
    address = str(smtp.get_transport_info("sockname")[0]).partition("%")[0]
    return f"[IPv6:{address}]" if ":" in address else f"[{address}]"


def _with_dot(message: bytes) -> bytes:
    """Encode a message for DATA with CRLF, doubled dots and the final dot (RFC 5321 section 4.5.2)."""
    endings = message.count(b"\r\n")
    is_crlf = message.count(b"\n") == message.count(b"\r") == endings
    lines = message if is_crlf else re.sub(rb"\r\n|\r|\n", b"\r\n", message)  # 100 us for a mail of ours
    if not lines.endswith(b"\r\n"):
        lines += b"\r\n"
    return (b"\r\n" + lines).replace(b"\r\n.", b"\r\n..")[2:] + b".\r\n"


def _text(reply: SMTPResponse) -> str:
    return f"{reply.code} {_one_line(reply.message)}"


def _one_line(text: str) -> str:
    """Replace unprintable characters and truncate, for logs and databases."""
    return "".join(character if character.isprintable() else " " for character in text)[:_LONGEST_REPLY].strip()
