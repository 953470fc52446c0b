"""Registries: they map a name, or a user's own `package.module:object`, to the object it refers to.

Entries are import strings, so listing or checking names imports nothing heavy.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any


class UnknownNameError(ValueError):
    """A name that is neither registered nor written as `package.module:object`."""


def nearest(name: str, valid: list[str]) -> str:
    """Return " (did you mean ...?)" for the closest valid name, or an empty string."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


class Registry(Mapping[str, str]):
    """Maps names to import strings `module:object`; an object is imported when it is loaded.

    Args:
        kind: What an entry is, for messages ("method").
        entries: Name to import string.
    """

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind = kind
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> str:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def check(self, name: str) -> str:
        """Return `name` if it is registered or written as `package.module:object`.

        Raises:
            UnknownNameError: It is neither; the message lists the valid names and suggests the closest.
        """
        if name in self._entries or _is_import_string(name):
            return name
        valid = sorted(self._entries)
        raise UnknownNameError(
            f"unknown {self.kind} {name!r}{nearest(name, valid)}; "
            f"valid: {', '.join(valid)}, or your own as package.module:object"
        )

    def load(self, name: str) -> Any:
        """Import and return the object that `name` refers to.

        Raises:
            UnknownNameError: The name is not registered, or a user's own object cannot be imported.
        """
        target = self._entries.get(self.check(name), name)
        module_name, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except Exception as error:  # importing a user's module may raise anything
            if name in self._entries:
                raise
            missing = isinstance(error, (ModuleNotFoundError, AttributeError))
            cause = error if missing else f"{type(error).__name__}: {error}"
            raise UnknownNameError(f"{self.kind} {name!r} cannot be imported: {cause}") from error


def _is_import_string(name: str) -> bool:
    module_name, separator, attribute = name.partition(":")
    return bool(separator) and attribute.isidentifier() and all(part.isidentifier() for part in module_name.split("."))
