"""Registries: a name, or a user's own `package.module:object`, to the object it stands for.

Entries are import strings, so listing or checking names imports nothing heavy.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterator, Mapping
from typing import Any


class UnknownNameError(ValueError):
    """A name that no registry entry has and that is no `package.module:object` either."""


def nearest(name: str, valid: list[str]) -> str:
    """Return " (did you mean ...?)" for the closest valid name, or an empty string."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


class Registry(Mapping[str, str]):
    """Maps names to import strings `module:object`; loads an object when it is asked for.

    Args:
        kind: What the entries are, in the singular, for messages ("method").
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
            UnknownNameError: Otherwise; the message lists the valid names and the nearest one.
        """
        if name in self._entries or _is_import_string(name):
            return name
        valid = sorted(self._entries)
        raise UnknownNameError(
            f"unknown {self.kind} {name!r}{nearest(name, valid)}; "
            f"valid: {', '.join(valid)}, or your own as package.module:object"
        )

    def load(self, name: str) -> Any:
        """Import and return the object behind `name`.

        Raises:
            UnknownNameError: The name is not registered, or the import string leads nowhere.
        """
        target = self._entries.get(self.check(name), name)
        module_name, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except Exception as error:  # a user's module may raise anything while it is imported
            if name in self._entries:
                raise
            known = isinstance(error, (ModuleNotFoundError, AttributeError))
            what = error if known else f"{type(error).__name__}: {error}"
            raise UnknownNameError(f"{self.kind} {name!r} cannot be imported: {what}") from error


def _is_import_string(name: str) -> bool:
    module_name, separator, attribute = name.partition(":")
    return bool(separator) and attribute.isidentifier() and all(part.isidentifier() for part in module_name.split("."))
