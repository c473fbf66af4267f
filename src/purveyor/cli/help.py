"""Help that lists commands in groups."""

from collections import defaultdict
from typing import Any

from typer.core import TyperGroup

_WHOLE_SENTENCE = 1000


class GroupedHelp(TyperGroup):
    """Lists commands by their ``rich_help_panel``, with the first sentence of each whole."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        groups = defaultdict(list)
        for name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, name)
            title = command.rich_help_panel if isinstance(command.rich_help_panel, str) else "Commands"
            groups[title].append((name, command.get_short_help_str(_WHOLE_SENTENCE)))
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)
