"""Exit codes, and ending the process with one line on stderr instead of a traceback."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

from purveyor.kit.errors import ConfigError, Problem, StartupError
from purveyor.kit.log import printable

WRONG_USE = 2
"""Exit code for a wrong option, role or setting."""
NOT_THERE = 1
"""Exit code for a missing or refusing dependency."""


@contextmanager
def exit_with_one_line() -> Iterator[None]:
    """Exit for errors of our own; a bug still shows its traceback."""
    try:
        yield
    except ConfigError as error:
        end(str(error), WRONG_USE)
    except (StartupError, Problem) as error:
        fields = "; ".join(f"{item.pointer} {item.detail}" for item in getattr(error, "errors", ()))
        end(f"{error} {fields}", NOT_THERE)


def end(message: str, code: int) -> NoReturn:
    """Write one line to stderr and exit."""
    sys.stderr.write(f"app: {printable(' '.join(message.split()))}\n")
    sys.exit(code)
