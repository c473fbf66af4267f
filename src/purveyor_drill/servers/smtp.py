"""A private SMTP server that keeps every mail, and misbehaves on command."""

import shutil
import socket
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import msgspec

from purveyor_drill.servers import smtp_sink
from purveyor_drill.servers.certificate import make_certificate
from purveyor_drill.servers.process import free_port, talk
from purveyor_drill.servers.server import Server
from purveyor_drill.servers.smtp_sink import Clear, Config, Received, Request, Rule, Script, Step

__all__ = ["Received", "Rule", "SmtpSink", "Step"]

_USER, _PASSWORD = "mailer", "tests"
_CONTROL_TIMEOUT_S = 5.0
_DECODER = msgspec.json.Decoder(Received)


class SmtpSink(Server):
    """Plain with STARTTLS on one port, implicit TLS on another; its mails survive ``kill``.

    ``require_auth``: refuse mails before AUTH. The rules of a script do not survive a restart.
    """

    name: ClassVar[str] = "smtp"
    variable: ClassVar[str] = "TEST_SMTP_URL"

    def __init__(self, *, require_auth: bool = False) -> None:
        super().__init__()
        self._require_auth = require_auth

    @classmethod
    def _missing(cls) -> str | None:
        return None if shutil.which("openssl") else "openssl, which makes the certificate, is not on the PATH"

    def _own_url(self) -> str:
        return f"smtp://{_USER}:{_PASSWORD}@127.0.0.1:{self.port}"

    @property
    def starttls_url(self) -> str:
        """The same port, with mandatory STARTTLS."""
        return f"smtp+starttls://{_USER}:{_PASSWORD}@127.0.0.1:{self.port}"

    @property
    def smtps_url(self) -> str:
        """The port with implicit TLS."""
        return f"smtps://{_USER}:{_PASSWORD}@127.0.0.1:{self._tls_port}"

    @property
    def certificate(self) -> Path:
        """The self-signed certificate (PEM) of ``localhost`` and 127.0.0.1, for clients to trust."""
        return self.folder / "certificate.pem"

    def messages(self) -> list[Received]:
        """The mails taken, oldest first; read from disk, so also while the sink is down or frozen."""
        return list(self.each_message())

    def each_message(self) -> Iterator[Received]:
        """The same one by one, for more mails than fit in memory."""
        with self.mails_file.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):  # otherwise it is just being written
                    yield _DECODER.decode(line)

    def messages_since(self, position: int) -> tuple[list[Received], int]:
        """The mails taken since a position, at first 0; and the position for the next call."""
        with self.mails_file.open("rb") as file:
            file.seek(position)
            whole, end, _ = file.read().rpartition(b"\n")
        return _DECODER.decode_lines(whole), position + len(whole + end)

    def counts(self) -> Counter[str]:
        """Count how often each Message-ID was accepted."""
        return Counter(mail.message_id for mail in self.messages())

    def steps(self) -> Counter[str]:
        """Count how often each ``Step`` occurred since the start."""
        return self._ask(Script())

    def script(self, *rules: Rule) -> None:
        """Add rules, in effect when this returns."""
        self._ask(Script(rules))

    def clear(self) -> None:
        """Forget rules, counts and mails."""
        self._ask(Clear())

    @property
    def mails_file(self) -> Path:
        """The file to which every mail is appended, as a line of JSON."""
        return self.folder / "mails.jsonl"

    def _ask(self, request: Request) -> Counter[str]:
        self._running()
        with socket.create_connection(("127.0.0.1", self._control_port), _CONTROL_TIMEOUT_S) as connection:
            connection.sendall(msgspec.json.encode(request) + b"\n")
            with connection.makefile("rb") as answer:
                return Counter(msgspec.json.decode(answer.read(), type=dict[str, int]))

    def _prepare(self) -> None:
        super()._prepare()
        self._tls_port, self._control_port = free_port(), free_port()
        self.mails_file.touch()
        make_certificate(self.certificate, self.folder / "key.pem", self._environment())

    def _command(self) -> Sequence[str]:
        config = Config(
            port=self.port,
            tls_port=self._tls_port,
            control_port=self._control_port,
            certificate=str(self.certificate),
            private_key=str(self.folder / "key.pem"),
            mails=str(self.mails_file),
            user=_USER,
            password=_PASSWORD,
            require_auth=self._require_auth,
        )
        return [sys.executable, "-m", smtp_sink.__name__, msgspec.json.encode(config).decode()]

    def _ready(self) -> bool:
        return talk(self._control_port, msgspec.json.encode(Script()) + b"\n").startswith(b"{")
