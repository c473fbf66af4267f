"""The output of all commands: tables on a terminal, plain lines in a pipe, JSON with ``--json``."""

import sys
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Column, Table
from rich.text import Text

from purveyor.kit.events.message import encode
from purveyor.kit.log import printable

_UNBOUNDED = 10_000
_LEAST_TEXT = 12
"""Cells that may be folded get at least this width, or their column is dropped."""
_GAP = 2

JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


class _Out(Console):
    """Console that prints texts literally, because they may come from customers or foreign servers."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Convert a string to text without interpreting markup; also used for table cells."""
        return super().render_str(printable(text), **options)


# No line wrapping in files and pipes, so that grep finds every id. A closed standard output is None.
_on_terminal = sys.stdout is not None and sys.stdout.isatty()
out = _Out(highlight=False, markup=False, emoji=False, width=None if _on_terminal else _UNBOUNDED)


class _Listing(Table):
    """A table that drops columns where the terminal is too narrow for all, and says which."""

    def __init__(self, drop: Sequence[str]) -> None:
        super().__init__(box=None, header_style="bold", pad_edge=False)
        self._drop = drop

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Render the columns that fit."""
        needed = {column.header: self._needed(column, console, options) for column in self.columns}
        dropped = []
        for header in self._drop:
            if sum(needed.values()) + _GAP * (len(needed) - 1) <= options.max_width:
                break
            dropped.append(header)
            del needed[header]
        every, self.columns = self.columns, [column for column in self.columns if column.header in needed]
        yield from super().__rich_console__(console, options)
        self.columns = every
        if dropped:
            yield Text(f"Not shown: {', '.join(dropped)}. Widen the terminal or use --json.", style="dim")

    def _needed(self, column: Column, console: Console, options: ConsoleOptions) -> int:
        cells = (column.header, *column.cells)
        widest = max(Measurement.get(console, options.update(width=_UNBOUNDED), cell).maximum for cell in cells)
        return widest if column.no_wrap else min(widest, _LEAST_TEXT)


def table(*columns: str, whole: Iterable[str] = (), drop: Sequence[str] = ()) -> Table:
    """An empty table in the style of all commands.

    Cells of the columns ``whole`` are never folded. The columns ``drop`` are left out in this order on a narrow
    terminal.
    """
    made = _Listing(drop)
    for column in columns:
        kept = column in whole
        made.add_column(column, no_wrap=kept, overflow="ellipsis" if kept else "fold")
    return made


def print_json(value: Any) -> None:
    """Print a value of our messages, dicts and lists as indented JSON."""
    typer.echo(msgspec.json.format(encode(value), indent=2).decode())
