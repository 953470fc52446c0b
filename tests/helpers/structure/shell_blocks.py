"""The shell commands that a Markdown text shows in its fenced blocks."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass

FENCE = re.compile(r"^(?P<indent> *)(?P<mark>`{3,})(?P<info>[^`]*)$")


@dataclass(frozen=True)
class Command:
    """One command as a reader would type it, without prompt and comment, and where it stands."""

    text: str
    place: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text)


def commands(markdown: str, /, *, name: str, info: str = "bash") -> list[Command]:
    """Return the commands of every block whose fence says exactly `info`.

    A command goes on over lines that end in a backslash or leave a quote open.
    """
    found: list[Command] = []
    closing: str | None = None
    wanted = False
    pending: list[str] = []
    for number, line in enumerate(markdown.splitlines(), start=1):
        fence = FENCE.match(line)
        if fence and closing is None:
            closing, wanted = fence["mark"], fence["info"].strip() == info
        elif fence and fence["mark"] == closing and not fence["info"].strip():
            if pending:
                raise ValueError(f"{name}:{number}: the block ends inside the command {' '.join(pending)!r}")
            closing = None
        elif closing and wanted:
            pending.append(line.strip().removeprefix("$ ") if not pending else line)
            if (text := _whole("\n".join(pending))) is not None:
                if text:
                    found.append(Command(text, f"{name}:{number - len(pending) + 1}"))
                pending = []
    if closing is not None:
        raise ValueError(f"{name}: the last block is not closed")
    return found


def _whole(text: str) -> str | None:
    """Return the command without its comment, or None if it goes on in the next line."""
    text = re.sub(r"\\\n\s*", "", text)
    return None if text.endswith("\\") else _without_comment(text)


def _without_comment(text: str) -> str | None:
    quote = ""
    for at, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (at == 0 or text[at - 1].isspace()):
            return text[:at].strip()
    return None if quote else text.strip()
