"""Wrong options and commands, as the other errors: one line on stderr, exit code 2."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from purveyor.kit import exits


@contextmanager
def exit_with_one_line() -> Iterator[None]:
    """``kit.exits``, and what the command line library raises."""
    try:
        with exits.exit_with_one_line():
            yield
    except click.ClickException as error:
        exits.end(error.format_message(), error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
