"""Password hashes that cost next to nothing: the suite makes thousands. As a program it is ``app`` with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch

from purveyor.__main__ import main
from purveyor.roles.auth import passwords


@contextmanager
def cheap_hashes() -> Iterator[None]:
    """For roles that start meanwhile."""
    with patch.multiple(passwords, _ITERATIONS=1, _MEMORY_KIB=8):
        yield


if __name__ == "__main__":
    with cheap_hashes():
        main()
