"""Password hashes that cost next to nothing: the suite makes thousands. As a program it is ``app`` with them.

Given ``TEST_PATIENCE_S``, that program has ``patience``.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest.mock import patch

from purveyor.__main__ import main
from purveyor.kit import deadline
from purveyor.kit.http import middleware
from purveyor.kit.limits import redis
from purveyor.roles.auth import passwords


@contextmanager
def cheap_hashes() -> Iterator[None]:
    """For roles that start meanwhile."""
    with patch.multiple(passwords, _ITERATIONS=1, _MEMORY_KIB=8):
        yield


@contextmanager
def patience(seconds: float) -> Iterator[None]:
    """Wait for so long before Redis counts as away, or a request as late: the machine may only be busy."""
    with (
        patch.multiple(redis, _PATIENCE_S=seconds),
        patch.multiple(middleware, MAX_READ_WAIT_S=seconds, MAX_WRITE_WAIT_S=seconds, TOO_LATE_S=seconds),
        patch.multiple(deadline, ANSWER_WITHIN_S=seconds),
    ):
        yield


if __name__ == "__main__":
    given = os.environ.get("TEST_PATIENCE_S")
    with cheap_hashes(), patience(float(given)) if given else nullcontext():
        main()
