"""Reports command line errors like all others: one line on stderr and an exit code."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import typer

from purveyor.kit.process import exit_codes as exits

# Typer bundles a copy of click and does not export the base class of its errors.
_CommandLineError: Any = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")


@contextmanager
def exit_with_one_line() -> Iterator[None]:
    """End the process on any of our errors or of Typer's; a bug still shows its traceback."""
    try:
        with exits.exit_with_one_line():
            yield
    except _CommandLineError as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # its message is the help text
            sys.stdout.write(error.format_message() + "\n")
            sys.exit(exits.WRONG_USE)
        message = error.format_message().replace("Value error, ", "")  # how pydantic begins
        exits.end(f"{message}{'' if message.endswith(('.', '?')) else '.'}{_allowed(error)}", error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        with suppress(OSError):  # otherwise the interpreter flushes again at exit and prints an error
            sys.stdout.close()
        exits.end(f"Cannot write the output: {error.strerror}.", exits.NOT_THERE)


def _allowed(error: Any) -> str:
    """The available options or commands, for an unknown one."""
    context = getattr(error, "ctx", None)
    if context is None:
        return ""
    if hasattr(error, "option_name") and hasattr(error, "possibilities"):
        options = [name for param in context.command.params for name in param.opts if name.startswith("--")]
        return f" Available options: {', '.join([*options, '--help'])}."
    if "command" in error.format_message() and hasattr(context.command, "list_commands"):
        return f" Available commands: {', '.join(context.command.list_commands(context))}."
    return ""
