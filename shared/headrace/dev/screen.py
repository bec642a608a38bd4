"""What the demo shows: sentences for newcomers, and a live timeline where a terminal can show one."""

import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from headrace.client.streams import Event
from headrace.dev.timeline import Timeline
from headrace.plans.model import Plan
from headrace.plans.show import HEADER, rows, table_text

REFRESH_HZ: Final = 12
WRAPPED: Final = ("does", "needs", "approval")


class Screen:
    """Prints headings, sentences and tables; the same text without colours where nobody looks."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False)

    def heading(self, text: str) -> None:
        """Begin a part."""
        self.console.print(Text(f"\n{text}", style="bold"), soft_wrap=True)

    def say(self, text: str) -> None:
        """Say a sentence, as it is."""
        self.console.print(Text(textwrap.indent(text, "  ")), soft_wrap=not self.console.is_terminal)

    def plan(self, plan: Plan) -> None:
        """Show a plan as a table, fitted to a terminal's width."""
        if not self.console.is_terminal:
            self.say(table_text(plan))
            return
        table = Table(box=None, padding=(0, 1, 0, 1))
        for heading in HEADER:
            table.add_column(heading, no_wrap=heading not in WRAPPED, overflow="fold")
        for row in rows(plan):
            table.add_row(*map(Text, row.cells()))
        self.console.print(table)

    @contextmanager
    def timeline(self, timeline: Timeline) -> Iterator["Stage"]:
        """Show a timeline as it moves: a table that changes on a terminal, lines elsewhere."""
        if not self.console.is_terminal:
            yield Stage(self, timeline, None)
            return
        with Live(timeline.table(), console=self.console, refresh_per_second=REFRESH_HZ) as live:
            yield Stage(self, timeline, live)


class Stage:
    """A timeline being shown."""

    def __init__(self, screen: Screen, timeline: Timeline, live: Live | None) -> None:
        self._screen, self._timeline, self._live = screen, timeline, live

    def see(self, event: Event) -> None:
        """Take in an event and show what it changed."""
        line = self._timeline.see(event)
        if self._live is not None:
            self._live.update(self._timeline.table())
        elif line is not None:
            self._screen.say(line)
