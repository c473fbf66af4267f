"""The current time with one zone and precision for all modules."""

from datetime import UTC, datetime


def now() -> datetime:
    """Return the time in UTC, truncated to milliseconds, the precision of UUIDv7."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
