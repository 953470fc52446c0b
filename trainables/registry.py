"""Registries: they map a name, or a user's own `package.module:object`, to the object it refers to.

Entries are import strings, so listing or checking names imports nothing heavy.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class UnknownNameError(ValueError):
    """A name that is neither registered nor written as `package.module:object`."""


class CodeRefusedError(Exception):
    """A user's own object that may not be imported here; the message says what to do."""


Check = Callable[[Any], str | None]
"""Returns what is wrong with a user's own object, after its name, or None."""

_GUARDS: list[Callable[[str, str], None]] = []


@contextmanager
def guarded_by(guard: Callable[[str, str], None], /) -> Iterator[None]:
    """Call `guard` with kind and name before a user's own object is imported, for the length of the block.

    It raises `CodeRefusedError` to prevent the import.
    """
    _GUARDS.append(guard)  # of the process: threads obey it too
    try:
        yield
    finally:
        _GUARDS.remove(guard)


def takes(positional: int, /, *keywords: str) -> Check:
    """Return a check that a function or class can be called with so many positional arguments and these keywords."""

    def check(thing: Any) -> str | None:
        try:
            inspect.signature(thing).bind(*[None] * positional, **dict.fromkeys(keywords))
        except (TypeError, ValueError) as error:
            given = [*(["one positional argument"] if positional == 1 else []), *keywords]
            return f"must take {', '.join(given) or 'no arguments'}: {error}"
        return None

    return check


def nearest(name: str, valid: list[str]) -> str:
    """Return " (did you mean ...?)" for the closest valid name, or an empty string."""
    close = difflib.get_close_matches(name, valid, n=1, cutoff=0.5)
    return f" (did you mean {close[0]}?)" if close else ""


class Registry(Mapping[str, str]):
    """Maps names to import strings `module:object`; an object is imported when it is loaded.

    Args:
        kind: What an entry is, for messages ("method").
        entries: Name to import string.
        check: What a user's own object is checked by before it is used.
    """

    def __init__(self, kind: str, entries: Mapping[str, str], *, check: Check = lambda thing: None) -> None:
        self.kind = kind
        self._check = check
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
        if name in self._entries or is_import_string(name):
            return name
        valid = sorted(self._entries)
        raise UnknownNameError(
            f"unknown {self.kind} {name!r}{nearest(name, valid)}; "
            f"valid: {', '.join(valid)}, or your own as package.module:object"
        )

    def load(self, name: str, /, *, check: Check | None = None) -> Any:
        """Import and return the object that `name` refers to.

        Args:
            name: A registered name, or a user's own object, which must be a Python function or class, and none of
                Python's standard library.
            check: Replaces the registry's check of a user's own object.

        Raises:
            UnknownNameError: The name is not registered, or a user's own object cannot be imported or used.
            CodeRefusedError: The running command may not import it.
        """
        target = self._entries.get(self.check(name), name)
        if name in self._entries:
            return self._imported(name, target)
        problem = _of_python(target.partition(":")[0])
        if problem is None:
            for guard in _GUARDS:
                guard(self.kind, name)
            thing = self._imported(name, target)
            problem = _unusable(thing) or (check or self._check)(thing)
        if problem is not None:
            raise UnknownNameError(f"{self.kind} {name!r} {problem}")
        return thing

    def _imported(self, name: str, target: str) -> Any:
        module_name, _, attribute = target.partition(":")
        try:
            return getattr(importlib.import_module(module_name), attribute)
        except Exception as error:  # importing a user's module may raise anything
            if name in self._entries:
                raise
            missing = isinstance(error, (ModuleNotFoundError, AttributeError))
            cause = error if missing else f"{type(error).__name__}: {error}"
            raise UnknownNameError(f"{self.kind} {name!r} cannot be imported: {cause}") from error


def _of_python(module: str) -> str | None:
    top = module.partition(".")[0]
    return "is of Python's standard library: name a function or class of your own" if top in _STANDARD else None


_STANDARD = sys.stdlib_module_names | {"builtins"}


def _unusable(thing: Any) -> str | None:
    if not (inspect.isfunction(thing) or inspect.isclass(thing)):
        return f"must be a Python function or class, got {type(thing).__name__}"
    return _of_python(str(getattr(thing, "__module__", "")))


def is_import_string(name: str, /) -> bool:
    """Return whether a name has the form `package.module:object`."""
    module_name, separator, attribute = name.partition(":")
    return bool(separator) and attribute.isidentifier() and all(part.isidentifier() for part in module_name.split("."))
