"""The mail sink's process: takes mails on a plain and a TLS port, and scripts on a control port.

Run as ``python -m purveyor_drill.servers.smtp_sink CONFIG``, with a ``Config`` in JSON.
"""

import asyncio
import fnmatch
import os
import socket
import ssl
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any, Literal, Never, cast

import msgspec
from aiosmtpd.smtp import SMTP, AuthResult

Step = Literal["connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "dot", "rset", "noop", "quit"]
"""The step at which a rule acts. ``dot`` is the end of the content, ``connect`` the greeting."""

_LINE_LIMIT = 1024 * 1024
_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for 0 s
_RECEIVED = "250 2.0.0 received"


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Replacement for the usual behavior at a step. If several rules apply, the oldest counts.

    With only ``delay_s``, the usual answer comes late. With only ``end``, there is no answer; at the ``dot`` the
    mail counts as received all the same, which is the case that puts a sender in doubt.
    """

    at: Step
    reply: str | None = None
    """The answer, such as ``451 4.3.0 later``; several lines are joined by CRLF."""
    delay_s: float = 0.0
    """Seconds to wait before the answer. At the dot, the mail is stored first."""
    end: Literal["stay", "close", "reset", "hang"] = "stay"
    """After the answer: continue, close the connection (FIN), reset it (RST), or never answer again."""
    cut: int | None = None
    """Send only so many bytes of the answer, and end the connection."""
    recipient: str | None = None
    """Only if a recipient of the current mail matches this shell pattern, such as ``*@slow.test``."""
    times: int | None = 1
    """Number of times it applies; ``None`` until ``clear``."""

    def answer(self, usual: str) -> str | None:
        """The answer in place of the usual one; ``None`` for silence."""
        if self.reply is not None:
            return self.reply
        return usual if self.end == "stay" or self.cut is not None else None


class Received(msgspec.Struct, frozen=True, kw_only=True):
    """A mail that the sink took, with its envelope."""

    sender: str
    recipients: tuple[str, ...]
    content: bytes
    """As sent, with CRLF, without the dots that SMTP adds."""
    helo: str
    user: str | None
    """The authenticated user."""
    tls: bool
    received_at: float
    """Seconds since 1970."""

    def message(self) -> EmailMessage:
        return message_from_bytes(self.content, EmailMessage, policy=policy.default)

    @property
    def message_id(self) -> str:
        """The ``Message-ID`` field, or an empty string."""
        return str(self.message().get("Message-ID", ""))


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of the sink's process."""

    port: int
    tls_port: int
    control_port: int
    certificate: str
    private_key: str
    mails: str
    """The file to which each mail is appended, as a line of JSON, before it is answered."""
    user: str
    password: str
    require_auth: bool


class Script(msgspec.Struct, frozen=True, tag=True):
    """Request: add these rules. The answer to every request is how often each step occurred."""

    rules: tuple[Rule, ...] = ()


class Clear(msgspec.Struct, frozen=True, tag=True):
    """Request: forget rules, counts and mails."""


Request = Script | Clear


class _Refused(Exception):
    """The script has replaced a positive reply by a negative one."""


class _Session(SMTP):
    """One connection. Each reply goes through the script before it is sent."""

    line_length_limit = _LINE_LIMIT
    session: Any
    envelope: Any
    transport: Any

    def __init__(self, sink: "Sink", tls: ssl.SSLContext | None) -> None:
        self._sink = sink
        self.step: Step | None = "connect"
        """Return the next reply; ``None`` for one that the script does not concern."""
        super().__init__(
            self,
            hostname="sink.test",
            ident="ESMTP",
            enable_SMTPUTF8=True,
            tls_context=tls,
            auth_require_tls=False,
            authenticator=self._authenticate_user,
            timeout=86_400,
        )

    async def push(self, status: Any) -> None:
        """Send a reply, or what the script says instead."""
        usual = status if isinstance(status, str) else status.decode()
        challenge = usual.startswith("334")
        if self.step is None or challenge or (not _is_positive(usual) and self.step != "auth"):
            await super().push(usual)
            return
        recipients = self.envelope.rcpt_tos
        rule = self._sink.rule(self.step, recipients[-1:] if self.step == "rcpt" else recipients)
        self.step = None
        answer = await self._play(rule, usual)
        await super().push(answer)
        if _is_positive(usual) and not _is_positive(answer):
            raise _Refused

    def undo(self, step: Step) -> None:
        """Take back what a command changed before its reply was replaced."""
        if step == "ehlo":
            self.session.host_name = None
        elif step == "mail":
            self.envelope.mail_from = None
        elif step == "rcpt":
            self.envelope.rcpt_tos.pop()
        elif step == "auth":
            self.session.authenticated, self.session.login_data = False, None

    async def handle_MAIL(self, _: SMTP, session: Any, envelope: Any, address: str, __: Sequence[str]) -> str:  # noqa: N802
        if self._sink.config.require_auth and not session.authenticated:
            return "530 5.7.0 authentication required"
        envelope.mail_from = address
        return "250 2.1.0 sender ok"

    async def handle_DATA(self, _: SMTP, session: Any, envelope: Any) -> str:  # noqa: N802
        rule = self._sink.rule("dot", envelope.rcpt_tos)
        answer = rule.answer(_RECEIVED)
        if answer is None or _is_positive(answer):
            self._sink.keep(
                Received(
                    sender=envelope.mail_from,
                    recipients=tuple(envelope.rcpt_tos),
                    content=envelope.content,
                    helo=session.host_name,
                    user=session.login_data.decode() if session.login_data else None,
                    tls=self.transport.get_extra_info("sslcontext") is not None,
                    received_at=time.time(),
                )
            )
        return await self._play(rule, _RECEIVED)

    def _authenticate_user(self, *arguments: Any) -> AuthResult:
        login = arguments[-1]
        known = (login.login, login.password) == (
            self._sink.config.user.encode(),
            self._sink.config.password.encode(),
        )
        return AuthResult(success=known, handled=False, auth_data=login)

    async def _play(self, rule: Rule, usual: str) -> str:
        """The answer to send now; never returns if the rule ends the connection."""
        await asyncio.sleep(rule.delay_s)
        answer = rule.answer(usual)
        if answer is not None and rule.end == "stay":
            return answer
        if answer is not None:
            self.transport.write(f"{answer}\r\n".encode()[: rule.cut])
        if rule.end == "reset":
            connection = self.transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
            self.transport.abort()
        elif rule.end == "close":
            self.transport.close()
        never: asyncio.Future[Never] = asyncio.get_running_loop().create_future()
        return await never  # the library cancels this when the connection has ended


def _scripted(step: Step, method: Callable[[SMTP, str], Awaitable[None]]) -> Any:
    async def command(self: _Session, argument: str) -> None:
        self.step = step
        try:
            await method(self, argument)
        except _Refused:
            self.undo(step)
        finally:
            self.step = None

    return command


for _verb in ("HELO", "EHLO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "QUIT"):
    _method = f"smtp_{_verb}"
    setattr(
        _Session,
        _method,
        _scripted(cast("Step", "ehlo" if _verb == "HELO" else _verb.lower()), getattr(SMTP, _method)),
    )


class Sink:
    """The state that the connections share."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self._rules: list[tuple[Rule, int | None]] = []
        self._counts: Counter[str] = Counter()

    def rule(self, step: Step, recipients: Sequence[str]) -> Rule:
        """Count the step, and find what to do at it."""
        self._counts[step] += 1
        for index, (rule, left) in enumerate(self._rules):
            if rule.at != step or not _concerns(rule, recipients):
                continue
            if left == 1:
                del self._rules[index]
            elif left is not None:
                self._rules[index] = (rule, left - 1)
            return rule
        return Rule(at=step)

    def keep(self, mail: Received) -> None:
        """Store a mail unbuffered: the death of this process loses none."""
        with Path(self.config.mails).open("ab") as file:
            file.write(msgspec.json.encode(mail) + b"\n")

    async def serve(self) -> None:
        """Listen until cancelled; the control port opens last, so that it means ready."""
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(self.config.certificate, self.config.private_key)
        loop, host = asyncio.get_running_loop(), "127.0.0.1"
        await loop.create_server(lambda: _Session(self, tls), host, self.config.port)
        await loop.create_server(lambda: _Session(self, None), host, self.config.tls_port, ssl=tls)
        control = await asyncio.start_server(self._control, host, self.config.control_port, limit=_LINE_LIMIT)
        await control.serve_forever()

    async def _control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match msgspec.json.decode(await reader.readline(), type=Request):
            case Script(rules):
                self._rules += [(rule, rule.times) for rule in rules]
            case Clear():
                self._rules.clear()
                self._counts.clear()
                os.truncate(self.config.mails, 0)
        writer.write(msgspec.json.encode(self._counts) + b"\n")
        await writer.drain()
        writer.close()


def _is_positive(reply: str) -> bool:
    return reply[:1] in {"2", "3"}


def _concerns(rule: Rule, recipients: Sequence[str]) -> bool:
    if rule.recipient is None:
        return True
    return any(fnmatch.fnmatchcase(recipient, rule.recipient) for recipient in recipients)


if __name__ == "__main__":
    asyncio.run(Sink(msgspec.json.decode(sys.argv[1], type=Config)).serve())
