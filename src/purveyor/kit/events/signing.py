"""Signatures of events that carry or command personal data.

Such an event, ``user.*`` or ``*_data.*``, erases an account, exports its data or mails a reset token, so it counts
only from a role of this installation. Others, such as ``order.created``, are open to foreign publishers.
"""

import hashlib
import hmac
import logging
from collections.abc import Mapping, Sequence

import msgspec

from purveyor.kit.events.message import Envelope
from purveyor.kit.events.transport import DeadLetter, EventHandler, EventTransport, Queue, Undeliverable

log = logging.getLogger(__name__)

_PURPOSE = b"purveyor event signature 1"


def is_signed(type_: str) -> bool:
    """Return whether events of this type carry a signature."""
    return type_.startswith("user.") or "_data." in type_


class EventSigner:
    """Signs events with HMAC-SHA256 and a key that is derived from the roles' shared secret."""

    def __init__(self, secret: str) -> None:
        self._key = hmac.digest(secret.encode(), _PURPOSE, hashlib.sha256)

    def sign(self, sent: Envelope) -> Envelope:
        """Return the event with its signature, or unchanged if its type carries none."""
        if not is_signed(sent.type):
            return sent
        return msgspec.structs.replace(sent, signature=self._signature(sent))

    def verifies(self, sent: Envelope) -> bool:
        return hmac.compare_digest(self._signature(sent).encode(), sent.signature.encode("utf-8", "replace"))

    def _signature(self, sent: Envelope) -> str:
        # RabbitMQ carries times in whole seconds.
        facts = (str(sent.id), sent.type, sent.subject, str(int(sent.occurred_at.timestamp())))
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in (*(fact.encode("utf-8", "surrogatepass") for fact in facts), sent.body):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.hexdigest()


class SignedEvents:
    """An event transport that signs what it publishes and verifies what it delivers.

    Without a ``signer``, events are neither signed nor verified. With ``exposed``, the first one that should be
    signed is then logged as a warning, because others may write to the server.
    """

    def __init__(self, transport: EventTransport, signer: EventSigner | None, *, exposed: bool) -> None:
        self._transport = transport
        self._signer = signer
        self._warns = exposed

    async def open(self, queues: Sequence[Queue]) -> None:
        await self._transport.open(queues)

    async def close(self) -> None:
        await self._transport.close()

    async def publish(self, envelopes: Sequence[Envelope]) -> Sequence[Exception | None]:
        signed = [self._signer.sign(sent) for sent in envelopes] if self._signer else envelopes
        return await self._transport.publish(signed)

    async def consume(self, queue: Queue, handler: EventHandler) -> None:
        if not is_signed(queue.event.type):
            await self._transport.consume(queue, handler)
            return

        async def verified(event: object, sent: Envelope) -> None:
            self._verify(sent)
            await handler(event, sent)

        await self._transport.consume(queue, verified)

    def _verify(self, sent: Envelope) -> None:
        """Raise ``Undeliverable`` for an event that no role of this installation has sent."""
        if self._signer is not None:
            if not self._signer.verifies(sent):
                wrong = "does not match SERVICE_SECRET" if sent.signature else "is missing"
                raise Undeliverable(f"the signature of {sent.type} {wrong}")
        elif self._warns:
            self._warns = False
            log.warning(
                "events about people are taken without a signature. Set SERVICE_SECRET in every process, so that "
                "nobody else who can write to the server can erase accounts or request mails",
                extra={"type": sent.type},
            )

    async def waiting(self, queues: Sequence[Queue]) -> Mapping[str, int]:
        return await self._transport.waiting(queues)

    async def dead_letters(self) -> Sequence[DeadLetter]:
        return await self._transport.dead_letters()

    async def replay(self, queue: str, event_id: str) -> bool:
        return await self._transport.replay(queue, event_id)

    async def drop(self, queue: str, event_id: str) -> bool:
        return await self._transport.drop(queue, event_id)

    async def check(self) -> str:
        return await self._transport.check()
