"""The tree of an OPC UA server on a terminal, walked by the keyboard, its values read anew each second.

Decides the keys and what the screen shows. Leaves the terminal as it was, also when the connection breaks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
import termios
import tty
from collections.abc import Iterator
from typing import Final

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from agent.commissioning.guess import guesses
from agent.commissioning.tree import Node, Space
from agent.config_tags import ROLE_NAMES

_EACH_S: Final = 1.0
_KEYS: Final = {b"\x1b[A": "up", b"\x1b[B": "down", b"\x1b[C": "right", b"\x1b[D": "left", b"\x1bOA": "up",
                b"\x1bOB": "down", b"\x1bOC": "right", b"\x1bOD": "left", b"\r": "right", b"\n": "right",
                b"\x1b[5~": "page up", b"\x1b[6~": "page down", b"k": "up", b"j": "down", b"l": "right",
                b"h": "left", b"\x1b": "escape", b"q": "quit", b"w": "write", b"r": "role",
                b"\x03": "quit", b"\x04": "quit"}  # fmt: skip
_ONE_KEY: Final = re.compile(rb"\x1b\[[0-9;]*[A-Za-z~]|\x1bO[A-Z]|(?s:.)")
_HELP: Final = "↑↓ walk   → open   ← close   r give a role   w done   q leave without"


class Screen:
    """`run` gives what was picked: role -> TOML inline table; nothing when left by q."""

    def __init__(
        self, space: Space, title: str, below: Node, *, can_write: bool, console: Console | None = None
    ) -> None:
        self._space = space
        self._title = title
        self._below = below
        self._open: set[int] = set()
        self._at = 0
        self._roles: dict[str, Node] = {}
        self._choosing: list[str] | None = None
        self._chosen = 0
        self._words = ""
        self._can_write = can_write
        self._console = console or Console(highlight=False)

    @property
    def picked(self) -> dict[str, str]:
        """Role -> TOML inline table."""
        return {role: self._space.tag(node, role) for role, node in self._roles.items()}

    async def run(self) -> dict[str, str]:
        """Until w or q. Raises LINK_ERRORS."""
        await self._space.expand([self._below])
        keys: asyncio.Queue[bytes] = asyncio.Queue()
        loop = asyncio.get_running_loop()
        descriptor = sys.stdin.fileno()
        with _raw(descriptor), Live(console=self._console, screen=True, auto_refresh=False) as live:

            def typed() -> None:
                data = os.read(descriptor, 1024)
                for key in _ONE_KEY.findall(data) or [b""]:
                    keys.put_nowait(key)

            loop.add_reader(descriptor, typed)
            try:
                while True:
                    await self._space.read([node for node in self._rows()[self._shown()] if node.is_variable])
                    live.update(self.screen(), refresh=True)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(_EACH_S):
                            data = await keys.get()
                            key = _KEYS.get(data, "")
                            if key == "quit" or not data:  # nothing to read: the terminal is gone
                                return {}
                            if key == "write":
                                return self.picked
                            await self.press(key)
            finally:
                loop.remove_reader(descriptor)

    async def press(self, key: str) -> None:
        """One key, by name."""
        if self._choosing is not None:
            self._choose(key)
            return
        rows = self._rows()
        node = rows[self._at] if rows else self._below
        self._words = ""
        match key:
            case "up" | "page up":
                self._at = max(0, self._at - (1 if key == "up" else self._height()))
            case "down" | "page down":
                self._at = max(0, min(len(rows) - 1, self._at + (1 if key == "down" else self._height())))
            case "right":
                await self._space.expand([node])
                self._open.add(id(node))
                self._words = "" if node.children else f"nothing lies below {node.name}"
            case "left":
                self._close(rows, node)
            case "role" if node.is_variable:
                likely = [role for role, nodes in guesses([node]).items() if nodes]
                self._choosing = [*likely, *(role for role in ROLE_NAMES if role not in likely), "none of these"]
                self._chosen = 0
            case "role":
                self._words = "only a variable can have a role; open this with →"

    def _choose(self, key: str) -> None:
        assert self._choosing is not None
        if key in ("up", "down"):
            self._chosen = (self._chosen + (1 if key == "down" else -1)) % len(self._choosing)
        elif key == "right":
            role, node = self._choosing[self._chosen], self._rows()[self._at]
            self._roles = {name: other for name, other in self._roles.items() if other is not node and name != role}
            if role in ROLE_NAMES:
                self._roles[role] = node
            self._choosing = None
        elif key in ("escape", "left"):
            self._choosing = None

    def _close(self, rows: list[Node], node: Node) -> None:
        if id(node) in self._open:
            self._open.discard(id(node))
            return
        above = next((each for each in rows if any(child is node for child in each.children)), None)
        if above is not None:
            self._open.discard(id(above))
            self._at = next(i for i, each in enumerate(rows) if each is above)

    def _rows(self) -> list[Node]:
        out: list[Node] = []
        waiting = list(reversed(self._below.children))
        while waiting:
            node = waiting.pop()
            out.append(node)
            if id(node) in self._open:
                waiting += reversed(node.children)
        return out

    def _height(self) -> int:
        return max(3, self._console.size.height - 6 - (len(self._choosing or ()) and 1))

    def _shown(self) -> slice:
        height = self._height()
        first = max(0, min(self._at - height // 2, len(self._rows()) - height))
        return slice(first, first + height)

    def screen(self) -> Group:
        """What stands on the terminal now."""
        roles = {id(node): role for role, node in self._roles.items()}
        rows = self._rows()
        shown = self._shown()
        table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), expand=True)
        table.add_column(no_wrap=True, ratio=3, overflow="ellipsis")
        table.add_column(no_wrap=True, ratio=2, overflow="ellipsis")
        table.add_column(no_wrap=True, width=10)
        for index, node in enumerate(rows[shown], shown.start):
            depth = len(node.names) - len(self._below.names) - 1
            mark = "  " if node.is_variable else ("▾ " if id(node) in self._open else "▸ ")
            name = Text("  " * depth + mark + node.name, "" if node.is_variable else "bold")
            value = Text(node.trouble or node.value, "red" if node.trouble else "cyan")
            role = Text(roles.get(id(node), ""), "bold green")
            table.add_row(name, value, role, style="reverse" if index == self._at else "")
        done = "w writes them into the configuration" if self._can_write else "w prints what to write"
        picked = ", ".join(f"{role} = {node.name}" for role, node in self._roles.items()) or "no roles given yet"
        foot = [Text(self._words or f"{picked};  {done}", "green" if self._roles else "dim", no_wrap=True)]
        if self._choosing is not None:
            words = Text("which role?  ", "bold", no_wrap=True)
            for index, choice in enumerate(self._choosing):
                words.append(f" {choice} ", "reverse" if index == self._chosen else "")
            words.append("   ↑↓ choose, Enter takes it, Esc leaves it", "dim")
            words.no_wrap = False
            foot = [words]
        head = Text(self._title, "bold", no_wrap=True)
        return Group(head, Text(""), table, Text(""), *foot, Text(_HELP, "dim", no_wrap=True))


@contextlib.contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Keys one by one, without an echo; the terminal is put back as it was."""
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor)
        yield
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)
