"""Password hashes that cost next to nothing: the suite makes thousands. As a program it is ``app`` with them.

With ``TEST_PATIENCE_S`` that program waits for so many seconds before it takes Redis to be away, or turns away
a request that is late: on a busy machine neither means that something is wrong.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
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


def be_patient(seconds: float) -> None:
    """For the rest of this process."""
    redis._PATIENCE_S = seconds
    middleware.READ_WAITS_S = middleware.WRITE_WAITS_S = middleware.TOO_LATE_S = seconds
    deadline.ANSWER_WITHIN_S = seconds


if __name__ == "__main__":
    if patience := os.environ.get("TEST_PATIENCE_S"):
        be_patient(float(patience))
    with cheap_hashes():
        main()
