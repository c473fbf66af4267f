"""A connection to an SMTP server (RFC 5321) that knows whether a failure came before or after the final dot."""

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Literal, cast

from aiosmtplib import SMTP, SMTPAuthenticationError, SMTPException, SMTPResponseException

from purveyor.kit.failpoints import failpoint
from purveyor.roles.email.ports import Doubtful, NotNow, Refused
from purveyor.roles.email.smtp_replies import ConnectionLost, Replies, Reply

Tls = Literal["none", "starttls", "implicit"]

_AUTH_CODES = frozenset({530, 534, 535, 538})  # RFC 4954 section 6: about our credentials, not the mail
_CLOSING = 421  # RFC 5321 section 3.8
_OUT_OF_STEP_CODES = frozenset({_CLOSING, 503})  # closing, bad sequence of commands
_BEFORE_RECIPIENT = ("RSET", "MAIL", "NOOP")
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

    def __init__(self, replies: Replies, deadlines: Deadlines, *, pipelining: bool) -> None:
        """With ``pipelining`` the server takes the commands of a mail in one write (RFC 2920)."""
        self._replies = replies
        self._deadlines = deadlines
        self._pipelining = pipelining
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
        try:
            async with _before_dot("connecting", deadlines.connect_s):
                await smtp.connect()
                smtp.local_hostname = _client_name(smtp)
            await _greet(smtp, deadlines, secure=target.tls == "starttls")
            if target.user:
                await _authenticate(smtp, target, deadlines)
        except BaseException:
            if smtp.transport is not None:
                cast("asyncio.WriteTransport", smtp.transport).abort()
            smtp.close()
            raise
        replies = Replies(cast("asyncio.WriteTransport", smtp.transport))
        return cls(replies, deadlines, pipelining=smtp.supports_extension("PIPELINING"))

    @property
    def usable(self) -> bool:
        return self._in_step and self._replies.is_open

    async def send(
        self, sender: str, recipient: str, message: bytes, before_dot: Callable[[], Awaitable[None]]
    ) -> str:
        """Send a mail between ASCII addresses and return the reply.

        Raises ``Refused``, ``NotNow``, ``AuthFailed``, ``ConnectionEnded``, ``Doubtful``, and errors of
        ``before_dot``.
        """
        self.mails += 1
        self._in_step = False
        await self._begin(sender, recipient)
        await before_dot()
        reply = await self._content(message)
        self._in_step = True
        return reply

    async def noop(self) -> None:
        self._in_step = False
        await self._ask("NOOP")
        self._in_step = True

    def quit(self) -> None:
        """Send QUIT and close without waiting for the reply."""
        with suppress(ConnectionLost):
            self._replies.write(b"QUIT\r\n", 1)
        self._replies.close()

    def abort(self) -> None:
        """Close at once, discarding unsent data."""
        self._replies.abort()

    async def _begin(self, sender: str, recipient: str) -> None:
        """Run the commands of a mail up to DATA, in one write if the server takes that."""
        commands = [f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA"]
        if self._needs_reset:
            commands.insert(0, "RSET")
        if self._pipelining:
            await self._ask(*commands)
        else:
            for command in commands:
                await self._ask(command)
        self._needs_reset = False

    async def _ask(self, *commands: str) -> None:
        """Write commands and read all their replies. Raises the error of the first that is not positive."""
        refusal: NotNow | Refused | None = None
        try:
            self._replies.write("".join(f"{command}\r\n" for command in commands).encode("ascii"), len(commands))
        except ConnectionLost as lost:
            raise self._lost(commands[0], lost) from lost
        for command in commands:
            try:
                reply = await self._replies.read(self._deadlines.command_s)
            except (TimeoutError, ConnectionLost) as lost:
                self._in_step = False
                raise refusal or self._lost(command, lost) from lost
            if reply.code // 100 == (3 if command == "DATA" else 2):
                # A server that wants the content of a refused mail would get an empty one with the dot.
                self._in_step = self._in_step and command != "DATA"
            elif refusal is None:
                refusal = self._refusal(reply, command)
            if refusal is not None and not self._in_step:
                break
        if refusal is not None:
            raise refusal

    def _lost(self, command: str, error: Exception) -> NotNow:
        verb = command[:4]
        if isinstance(error, TimeoutError):
            return NotNow(f"{verb}: no answer within {self._deadlines.command_s:g} s")
        kind = ConnectionEnded if verb in _BEFORE_RECIPIENT else NotNow
        return kind(f"{verb}: {_one_line(str(error))}")

    async def _content(self, message: bytes) -> str:
        """Write the message with its final dot and read the reply."""
        try:
            self._replies.write(_with_dot(message), 1)
        except ConnectionLost as lost:
            raise NotNow("the connection ended before the final dot") from lost
        failpoint("smtp.dot_written")
        try:
            reply = await self._replies.read(self._deadlines.dot_s)
        except TimeoutError as error:
            raise Doubtful(f"no answer to the final dot within {self._deadlines.dot_s:g} s") from error
        except ConnectionLost as error:
            raise Doubtful(f"after the final dot: {_one_line(str(error))}") from error
        match reply.code // 100:
            case 2:
                return _text(reply)
            case 4 | 5:
                raise self._refusal(reply)
        raise Doubtful(f"not an answer to the final dot: {_text(reply)}")

    def _refusal(self, reply: Reply, command: str = "") -> NotNow | Refused:
        """Return the error for a negative reply. After a plain refusal the connection stays usable."""
        refused = reply.code // 100 in (4, 5) and reply.code not in _OUT_OF_STEP_CODES
        self._in_step = self._needs_reset = refused
        if reply.code in _AUTH_CODES:
            return AuthFailed(_text(reply))
        if refused and reply.code // 100 == 5:  # noqa: PLR2004 - 5xx
            return Refused(_text(reply))
        if reply.code == _CLOSING and command[:4] in _BEFORE_RECIPIENT:
            return ConnectionEnded(_text(reply))
        return NotNow(_text(reply))


async def _greet(smtp: SMTP, deadlines: Deadlines, *, secure: bool) -> None:
    async with _before_dot("EHLO", deadlines.command_s):
        await smtp.ehlo()
    if secure:
        async with _before_dot("STARTTLS", deadlines.command_s):
            await smtp.starttls()
        async with _before_dot("EHLO", deadlines.command_s):
            await smtp.ehlo()  # discards the extensions from before TLS (RFC 3207 section 4.2)


async def _authenticate(smtp: SMTP, target: Target, deadlines: Deadlines) -> None:
    """Try one method once, since further attempts could lock the account."""
    methods = {
        "plain": smtp.auth_plain,
        "login": smtp.auth_login,
        "cram-md5": smtp.auth_crammd5,
    }
    order = ("plain", "login", "cram-md5") if target.tls != "none" else ("cram-md5", "plain", "login")
    method = next((methods[name] for name in order if name in smtp.server_auth_methods), None)
    if method is None:
        raise AuthFailed("the server offers no AUTH that we know (PLAIN, LOGIN, CRAM-MD5)")
    try:
        async with _before_dot("AUTH", deadlines.command_s):
            await method(target.user.encode(), target.password.encode())
    except NotNow as error:
        cause = error.__cause__
        if isinstance(cause, SMTPAuthenticationError) and cause.code // 100 == 5:  # noqa: PLR2004 - 5xx
            raise AuthFailed(str(error)) from cause
        raise


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
    if b"\r\n." in lines or lines.startswith(b"."):
        lines = (b"\r\n" + lines).replace(b"\r\n.", b"\r\n..")[2:]
    return lines + b".\r\n"


def _text(reply: Reply) -> str:
    return f"{reply.code} {_one_line(reply.text)}"


def _one_line(text: str) -> str:
    """Replace unprintable characters and truncate, for logs and databases."""
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return text[:_LONGEST_REPLY].strip()
