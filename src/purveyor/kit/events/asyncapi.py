"""The AsyncAPI 3.1 document of every event, made from the types that the code itself sends and reads."""

from collections.abc import Sequence
from typing import Any

import msgspec

from purveyor.kit.events.message import Event
from purveyor.kit.role import Role

_REF = "#/components/schemas/{name}"
_EXCHANGE = "purveyor.events"
_HEADERS = {
    "type": "object",
    "properties": {
        "order_id": {"type": "string", "description": "Order of the event."},
        "subject": {"type": "string", "description": "Subject of an event that is not about an order."},
        "sequence": {"type": "integer", "description": "Position among the events of one subject."},
        "currency": {"type": "string", "description": "ISO 4217 code of the amounts."},
        "language": {"type": "string", "description": "The customer's language (RFC 5646)."},
        "traceparent": {"type": "string", "description": "W3C trace context."},
    },
}


def asyncapi(roles: Sequence[Role[Any]], *, version: str) -> dict[str, Any]:
    """The document: a channel for each event type, and who sends to it and receives from it."""
    emitted = {event: role.name for role in roles for event in role.emits}
    consumed = {(role.name, queue): event for role in roles for event, queue in role.consumes.items()}
    events = sorted({*emitted, *consumed.values()}, key=lambda event: event.type)
    schemas, components = msgspec.json.schema_components(events, ref_template=_REF)
    operations: dict[str, Any] = {}
    for event, role in emitted.items():
        operations[f"{role}.sends.{event.type}"] = _operation("send", event, f"Emitted by role {role}.")
    for (role, queue), event in consumed.items():
        summary = f"Handled by role {role} from queue {queue}."
        operations[f"{role}.receives.{event.type}"] = _operation("receive", event, summary)
    return {
        "asyncapi": "3.1.0",
        "info": {
            "title": "Purveyor events",
            "version": version,
            "license": {"name": "MIT", "url": "https://spdx.org/licenses/MIT"},
            "description": (
                "Events are delivered at least once. The message id is the event id; consumers use it to ignore "
                f"duplicates. On RabbitMQ events go to the topic exchange {_EXCHANGE} with the channel as routing "
                "key, on NATS JetStream to the subject purveyor.events. with the queue. Each receive operation "
                "names its durable queue. With KAFKA_OUTLET set, events also go to the Kafka topic purveyor. with "
                "the channel, as CloudEvents in binary mode with the subject as key."
            ),
        },
        "defaultContentType": "application/json",
        "channels": {event.type: _channel(event) for event in events},
        "operations": operations,
        "components": {
            "messages": {
                event.type: _message(event, schema) for event, schema in zip(events, schemas, strict=True)
            },
            "schemas": _numbers(components),
        },
    }


def _channel(event: type[Event]) -> dict[str, Any]:
    return {
        "address": event.type,
        "messages": {event.type: {"$ref": f"#/components/messages/{event.type}"}},
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {"name": _EXCHANGE, "type": "topic", "durable": True, "autoDelete": False},
            },
            "kafka": {"topic": f"purveyor.{event.type}"},
        },
    }


def _operation(action: str, event: type[Event], summary: str) -> dict[str, Any]:
    return {
        "action": action,
        "channel": {"$ref": f"#/channels/{event.type}"},
        "summary": summary,
        "messages": [{"$ref": f"#/channels/{event.type}/messages/{event.type}"}],
    }


def _message(event: type[Event], schema: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": event.type,
        "title": event.__name__,
        "summary": (event.__doc__ or "").partition("\n")[0],
        "contentType": "application/json",
        "headers": _HEADERS,
        "correlationId": {"location": "$message.header#/correlation_id"},
        "payload": schema,
    }


def _numbers(schema: Any) -> Any:
    """Decimals are numbers on our wires; msgspec describes them as the strings that it would write by default."""
    if isinstance(schema, dict):
        if schema.get("format") == "decimal":
            return {"type": "number"}
        return {name: _numbers(part) for name, part in schema.items()}
    return [_numbers(part) for part in schema] if isinstance(schema, list) else schema
