"""Events as CloudEvents 1.0 on Kafka in binary mode: attributes as headers, the body unchanged as the value.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md
"""

from datetime import UTC

from purveyor.kit.events.message import Envelope

TOPIC_PREFIX = "purveyor."


def topic_of(type_: str) -> str:
    """Return the topic of an event type."""
    return TOPIC_PREFIX + type_


def headers_of(event: Envelope, source: str) -> list[tuple[str, bytes]]:
    """Return the headers of an event that role ``source`` emitted. Attributes without a value are left out."""
    attributes = {
        "specversion": "1.0",
        "id": str(event.id),
        "source": f"/purveyor/{source}",
        "type": event.type,
        "subject": event.subject,
        "time": event.occurred_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "sequence": str(event.sequence) if event.sequence else "",
        "correlationid": event.correlation_id,
        "currency": event.currency,
        "language": event.language,
        "traceparent": event.traceparent,
    }
    headers = [(f"ce_{name}", value.encode()) for name, value in attributes.items() if value]
    return [*headers, ("content-type", b"application/json")]
