"""The shell commands in the fenced blocks of a Markdown text."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

FENCE = re.compile(r"^(?P<indent> *)(?P<mark>`{3,})(?P<info>[^`]*)$")


@dataclass(frozen=True)
class Command:
    """One command as a reader types it, without prompt and comment, and its place as "file:line"."""

    text: str
    place: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def commands(markdown: str, /, *, name: str, info: str = "bash") -> list[Command]:
    """Return the commands of every block whose fence has exactly the string `info`.

    A command continues after lines that end in a backslash or leave a quote open.

    Raises:
        ValueError: A block is not closed, or ends inside a command.
    """
    result: list[Command] = []
    closing: str | None = None
    selected = False
    pending: list[str] = []
    for number, line in enumerate(markdown.splitlines(), start=1):
        fence = FENCE.match(line)
        if fence and closing is None:
            closing, selected = fence["mark"], fence["info"].strip() == info
        elif fence and fence["mark"] == closing and not fence["info"].strip():
            if pending:
                raise ValueError(f"{name}:{number}: the block ends inside the command {' '.join(pending)!r}")
            closing = None
        elif closing and selected:
            pending.append(line.strip().removeprefix("$ ") if not pending else line)
            if (text := _complete("\n".join(pending))) is not None:
                if text:
                    result.append(Command(text, f"{name}:{number - len(pending) + 1}"))
                pending = []
    if closing is not None:
        raise ValueError(f"{name}: the last block is not closed")
    return result


def _complete(text: str) -> str | None:
    """Return the command without its comment, or None if it continues on the next line."""
    text = re.sub(r"\\\n\s*", "", text)
    return None if text.endswith("\\") else _without_comment(text)


def _without_comment(text: str) -> str | None:
    quote = ""
    for position, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (position == 0 or text[position - 1].isspace()):
            return text[:position].strip()
    return None if quote else text.strip()
