"""Back-pressure: how far a relay is behind, and from where on nothing more is taken on."""

from purveyor.kit.errors import EventBacklog, Unavailable
from purveyor.kit.metrics import OUTBOX_FULL, OUTBOX_OLDEST_SECONDS, OUTBOX_UNPUBLISHED

_RETRY_AFTER_S = 30


class Backlog:
    """The events of one schema's outbox that wait, as the relay last measured them.

    It is full with ``max_events`` events, or when the oldest is older than ``max_age_s`` seconds at two
    measurements in a row: an old event that an operator sends again is gone by the second.
    """

    def __init__(self, schema: str, *, max_events: int = 100_000, max_age_s: float = 86_400.0) -> None:
        self._schema = schema
        self._max_events = max_events
        self._max_age_s = max_age_s
        self._waiting = 0
        self._oldest_s = 0.0
        self._late = False
        self.full = False
        """Whether nothing more is to be taken on."""

    def measured(self, waiting: int, oldest_s: float) -> None:
        """Take note of how many events wait and how old the oldest is."""
        self._waiting, self._oldest_s = waiting, max(0.0, oldest_s)
        late, self._late = self._late, self._oldest_s >= self._max_age_s
        self.full = waiting >= self._max_events or (late and self._late)
        OUTBOX_UNPUBLISHED.labels(self._schema).set(waiting)
        OUTBOX_OLDEST_SECONDS.labels(self._schema).set(self._oldest_s)
        OUTBOX_FULL.labels(self._schema).set(self.full)

    def require_room(self) -> None:
        """Raise ``EventBacklog`` when it is full. Costs no query."""
        if self.full:
            raise EventBacklog(retry_after_s=_RETRY_AFTER_S)

    async def check(self) -> str:
        """How many wait, for the readiness; raises ``Unavailable`` when it is full."""
        line = f"{self._waiting} events wait, the oldest is {self._oldest_s:.0f} s old"
        if self.full:
            raise Unavailable(f"event backlog is full: {line}")
        return line
