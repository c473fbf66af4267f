"""What others hear of accounts: the envelopes of this role's events."""

from purveyor.kit import log, tracing
from purveyor.kit.clock import now
from purveyor.kit.ids import new_id
from purveyor.kit.message import Envelope, Event
from purveyor.kit.web import encode
from purveyor.roles.auth.model import User


def about(user: User, event: Event) -> Envelope:
    """An event about an account, in its language."""
    return Envelope(
        id=new_id(),
        type=event.type,
        body=encode(event),
        occurred_at=now(),
        subject=str(user.id),
        correlation_id=log.request_id.get(),
        traceparent=tracing.traceparent.get(),
        language=user.language,
    )
