"""What a test and the mail sink's process tell each other: the rules to play, and the mails received."""

from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Literal

import msgspec

Step = Literal["connect", "ehlo", "starttls", "auth", "mail", "rcpt", "data", "dot", "rset", "noop", "quit"]
"""Where a rule acts. ``dot`` is the end of the content, ``connect`` the greeting."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """What to do at a step instead of the usual; of several that apply, the oldest.

    With only ``delay_s``, the usual answer comes late. With only ``end``, there is no answer; at the ``dot``
    the mail counts as received all the same, which is the case that makes a sender doubt.
    """

    at: Step
    reply: str | None = None
    """The answer, such as ``451 4.3.0 later``; several lines are joined by CRLF."""
    delay_s: float = 0.0
    """Seconds to wait before the answer. A mail is kept before that, at the dot."""
    end: Literal["stay", "close", "reset", "hang"] = "stay"
    """After the answer: go on, close the connection (FIN), reset it (RST), or never say a word again."""
    cut: int | None = None
    """Send only so many bytes of the answer."""
    recipient: str | None = None
    """Only when a recipient of the mail in hand matches this shell pattern, such as ``*@slow.test``."""
    times: int | None = 1
    """For how many occurrences it holds; ``None``: until ``clear``."""

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
    """Who was authenticated."""
    tls: bool
    received_at: float
    """Seconds since 1970."""

    def message(self) -> EmailMessage:
        """The content, parsed."""
        return message_from_bytes(self.content, EmailMessage, policy=policy.default)

    @property
    def message_id(self) -> str:
        """The ``Message-ID`` field, or an empty string."""
        return str(self.message().get("Message-ID", ""))


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """What the sink's process is started with."""

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
    """Request: add these rules."""

    rules: tuple[Rule, ...]


class Clear(msgspec.Struct, frozen=True, tag=True):
    """Request: forget rules, counts and mails."""


class Count(msgspec.Struct, frozen=True, tag=True):
    """Request: nothing but the answer, which is how often each step occurred."""


Request = Script | Clear | Count
