"""Password hashes that cost next to nothing: the suite makes thousands. As a program it is ``app`` with them.

``TEST_REDIS_PATIENCE_S`` is for how long that program takes a silent Redis for a busy one, in seconds.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from purveyor.__main__ import main
from purveyor.kit.limits import redis
from purveyor.roles.auth import passwords


@contextmanager
def cheap_hashes() -> Iterator[None]:
    """For roles that start meanwhile."""
    with patch.multiple(passwords, _ITERATIONS=1, _MEMORY_KIB=8):
        yield


if __name__ == "__main__":
    redis._PATIENCE_S = float(os.environ.get("TEST_REDIS_PATIENCE_S", redis._PATIENCE_S))
    with cheap_hashes():
        main()
