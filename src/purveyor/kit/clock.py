"""The time, in one place, so that no module invents its own zone or precision."""

from datetime import UTC, datetime


def now() -> datetime:
    """The current time in UTC, in whole milliseconds: what fits a UUIDv7, JSON and a person's eye."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
