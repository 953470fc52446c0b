"""Registries: they map a name, or a user's own `package.module:object`, to the object it refers to.

Entries are import strings, so listing or checking names imports nothing heavy.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class UnknownNameError(ValueError):
    """A name that is neither registered nor written as `package.module:object`."""


class OwnCodeError(ValueError):
    """A user's own object failed when it was used: one line with what it was called with, what it did, and where."""


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


_POSITIONAL = ("one positional argument", "two positional arguments", "three positional arguments")


def takes(positional: int, /, *keywords: str) -> Check:
    """Return a check that a function or class can be called with so many positional arguments and these keywords."""

    def check(thing: Any) -> str | None:
        try:
            inspect.signature(thing).bind(*[None] * positional, **dict.fromkeys(keywords))
        except (TypeError, ValueError) as error:
            given = [*_POSITIONAL[:positional][-1:], *keywords]
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
        others: What is valid beside entries and a user's own objects, for messages; nothing by default.
    """

    def __init__(
        self, kind: str, entries: Mapping[str, str], *, check: Check = lambda thing: None, others: Sequence[str] = ()
    ) -> None:
        self.kind = kind
        self._others = others
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
            f"valid: {', '.join([*valid, *self._others])}, or your own as package.module:object"
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
            module, _, attribute = target.partition(":")
            return getattr(importlib.import_module(module), attribute)
        problem = _of_python(target.partition(":")[0])
        if problem is None:
            for guard in _GUARDS:
                guard(self.kind, name)
            try:
                thing = _own(name)
            except _ImportProblemError as error:
                raise UnknownNameError(f"{self.kind} {name!r} cannot be imported: {error}") from error.__cause__
            problem = _unusable(thing) or (check or self._check)(thing)
            problem = problem and problem + _defined_at(thing)
        if problem is not None:
            raise UnknownNameError(f"{self.kind} {name!r} {problem}")
        return thing


@contextmanager
def calling(kind: str, name: str, given: str, /) -> Iterator[None]:
    """Raise what a user's own object raises in the block as one line; a registered one's errors pass unchanged.

    Args:
        kind: What the object is ("method").
        name: Registered name or `package.module:object`.
        given: What it is called with, in words.

    Raises:
        OwnCodeError: The user's own object raised an error, or ended the process by `sys.exit`.
    """
    try:
        yield
    except (OwnCodeError, UnknownNameError, CodeRefusedError):
        raise
    except (Exception, SystemExit) as error:
        # torch's, which the training loop handles; this module does not load torch to know the class
        if not is_import_string(name) or type(error).__name__ == "OutOfMemoryError":
            raise
        problem = f"raised {_one_line(error)}{place_of(name, error)}"
        raise OwnCodeError(f"{kind} {name!r}, called with {given}, {problem}") from error


def must_return(kind: str, name: str, given: str, required: str, /) -> OwnCodeError:
    """Return the error of an object that returned something else than `required`; see `calling` for the rest."""
    return OwnCodeError(f"{kind} {name!r}, called with {given}, must return {required}{place_of(name)}")


def place_of(name: str, error: BaseException | None = None, /) -> str:
    """Return the line of a user's own module that an error comes from, or else the one that defines the object.

    Args:
        name: Registered name or `package.module:object`.
        error: What was raised.

    Returns:
        " (file:line)"; nothing for a registered name.
    """
    if not is_import_string(name):
        return ""
    raised = "" if error is None else _raised_at(error, name.partition(":")[0])
    return raised or _defined_at(_own(name))


class _ImportProblemError(Exception):
    """Why an object cannot be imported."""


def _own(name: str) -> Any:
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # importing a user's module may raise anything
        missing = isinstance(error, ModuleNotFoundError)
        where = _raised_at(error, module_name)
        if missing and not where:
            where = "; it is looked for in the working folder and in installed packages"
            if module_name.endswith(".py"):
                where = f" (did you mean {module_name.removesuffix('.py')}:{attribute}?)"
        raise _ImportProblemError(f"{error if missing else _one_line(error)}{where}") from error
    try:
        return getattr(module, attribute)
    except AttributeError as error:
        close = nearest(attribute, [one for one in vars(module) if not one.startswith("_")])
        raise _ImportProblemError(f"{module_name} has no `{attribute}`{close}") from error


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())[:300]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _raised_at(error: BaseException, module: str) -> str:
    """Return the innermost line of the traceback in the package of a user's module, as " (file:line)"."""
    top, place = module.partition(".")[0], ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] == top:
            place = _place(frame.f_code.co_filename, name, line)
    return place


def _defined_at(thing: Any) -> str:
    """Return where a function or class is defined, as " (file:line)"."""
    try:
        file, line = inspect.getsourcefile(thing), inspect.getsourcelines(thing)[1]
    except (OSError, TypeError):
        return ""
    return _place(str(file), getattr(thing, "__module__", ""), line)


def _place(file: str, module: str, line: int) -> str:
    """Return a place in a file with its path below the folder that modules are found in, alike on every machine."""
    path = Path(file)
    depth = len(module.split(".")) + (path.name == "__init__.py")
    return f" ({'/'.join(path.parts[-depth:])}:{line})"


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
