"""Wrong options and commands, as the other errors: one line on stderr, exit code 2."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from purveyor.kit.process import exit_codes as exits

# Typer carries its own copy of click and gives only the leaves of its tree of errors a public name.
_CommandLineError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


@contextmanager
def exit_with_one_line() -> Iterator[None]:
    """``kit.exits``, and what the command line library raises."""
    try:
        with exits.exit_with_one_line():
            yield
    except _CommandLineError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help text
            sys.stdout.write(error.format_message() + "\n")
            sys.exit(exits.WRONG_USE)
        exits.end(f"{error.format_message()}{_allowed(error)}", error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        with suppress(OSError):  # else the interpreter tries again at its end, and complains
            sys.stdout.close()
        exits.end(f"The output cannot be written: {error.strerror}.", exits.NOT_THERE)


def _allowed(error: Any) -> str:
    """What there is instead of a command or an option that there is not."""
    context = getattr(error, "ctx", None)
    if context is None:
        return ""
    if hasattr(error, "option_name") and hasattr(error, "possibilities"):
        options = [name for param in context.command.params for name in param.opts if name.startswith("--")]
        return f" There are: {', '.join([*options, '--help'])}."
    if "command" in error.format_message() and hasattr(context.command, "list_commands"):
        return f" There are: {', '.join(context.command.list_commands(context))}."
    return ""
