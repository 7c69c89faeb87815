"""Questions to a person: each with a default and a word why it is asked; or answered by the command line.

Decides how a question looks and when it is asked again. Without a terminal nothing is asked: the default is taken, and
where there is none the option is named that would answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rich.console import Console
from rich.text import Text

from protocols.errors import ConfigurationError

T = TypeVar("T")


class Wrong(ValueError):
    """An answer cannot be used; the words say why, and what can."""


class Asker:
    """`given`: answers from the command line, by the option's name. `interactive`: whether somebody is there."""

    def __init__(self, given: Mapping[str, str], *, interactive: bool, console: Console | None = None) -> None:
        self.interactive = interactive
        self.console = console or Console(highlight=False)
        self._given = dict(given)

    @property
    def left(self) -> list[str]:
        """What was given on the command line and not asked for."""
        return list(self._given)

    def heading(self, words: str) -> None:
        if self.interactive:
            self.console.print()
            self.console.rule(Text(words, "bold"), align="left", style="dim")

    def say(self, words: str, style: str = "") -> None:
        self.console.print(Text(words, style), soft_wrap=True)  # commands are to be copied whole

    def ask(self, option: str, question: str, why: str, default: str | None, read: Callable[[str], T]) -> T:
        """The answer, through `read`, which raises Wrong. Raises ConfigurationError when nobody can be asked."""
        given = self._given.pop(option, None)
        if given is not None:
            try:
                return read(given)
            except Wrong as wrong:
                if not self.interactive:
                    raise ConfigurationError(f"--{option} {given}: {wrong}") from None
                self.say(f"--{option} {given}: {wrong}", "red")
        if not self.interactive:
            if default is None:
                raise ConfigurationError(f"{question}? Nobody can be asked here", mend=f"give --{option}")
            try:
                return read(default)
            except Wrong as wrong:
                raise ConfigurationError(f"{question}: {wrong}", mend=f"give --{option}") from None
        self.console.print()
        self.console.print(Text(why, "dim"))
        shown = "" if default is None else f" [{default}]" if default else " [none]"
        while True:
            self.console.print(Text.assemble((question, "bold"), (shown, "cyan"), ": "), end="")
            try:
                answer = input().strip()
            except EOFError:
                raise ConfigurationError("the input ended", mend="nothing was written; begin again") from None
            if not answer and default is None:
                self.say("  an answer is needed here", "yellow")
                continue
            try:
                return read(answer or default or "")
            except Wrong as wrong:
                self.say(f"  {wrong}", "yellow")

    def choose(
        self, option: str, question: str, why: str, choices: Sequence[tuple[str, str]], default: str | None
    ) -> str:
        """One of `choices` (name, words), by its name or its number."""
        names = [name for name, _ in choices]
        if self.interactive and option not in self._given:
            self.console.print()
            for number, (name, words) in enumerate(choices, 1):
                self.console.print(Text.assemble((f"  {number}  ", "cyan"), (f"{name:<10}", "bold"), f"  {words}"))

        def read(text: str) -> str:
            if text.isdecimal() and 1 <= int(text) <= len(names):
                return names[int(text) - 1]
            if text in names:
                return text
            raise Wrong(f"one of: {', '.join(names)}; or its number")

        return self.ask(option, question, why, default, read)

    def yes(self, option: str, question: str, why: str, default: bool) -> bool:
        def read(text: str) -> bool:
            if text.lower() in ("y", "yes", "n", "no"):
                return text.lower().startswith("y")
            raise Wrong("y or n")

        return self.ask(option, f"{question} (y/n)", why, "y" if default else "n", read)


def somebody_is_there() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()
