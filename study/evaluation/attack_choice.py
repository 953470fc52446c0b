"""The attacks that `evaluate --attack` asks for, and which of them can run on a data set's images."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from study.console import notes
from study.errors import UsageError
from trainables.attacks import ATTACKS, MissingExtraError, require_package, unsuitable
from trainables.registry import UnknownNameError

ALL = "all"

ALWAYS = ("fgsm", "pgd")
"""Attacks on any checkpoint, before those asked for."""


def parse_attacks(name: str, /, *, always: Collection[str]) -> tuple[str, ...]:
    """Return the attacks that `--attack` asks for, beside those that are run in any case.

    Args:
        name: A registered attack, `package.module:object`, or `all` of the registered ones.
        always: Attacks that are run in any case, which are left out.

    Raises:
        UsageError: Unknown attack, or one whose package is missing.
    """
    try:
        attacks = tuple(ATTACKS) if name == ALL else (ATTACKS.check(name),)
    except UnknownNameError as error:
        raise UsageError(f"--attack: {error}, or {ALL}") from error
    for attack in attacks:
        try:
            require_package(attack)
        except MissingExtraError as error:
            if name != ALL:
                raise UsageError(str(error)) from error
            notes().print(f"left out: {error}")
            attacks = tuple(other for other in attacks if other != attack)
            continue
        try:
            loaded = ATTACKS.load(attack)
        except UnknownNameError as error:
            raise UsageError(f"--attack: {error}") from error
        if not callable(loaded):
            raise UsageError(f"--attack {attack} must be a function, got {type(loaded).__name__}")
    return tuple(attack for attack in attacks if attack not in always)


def suitable(attacks: Sequence[str], /, *, image_shape: tuple[int, ...], num_classes: int) -> tuple[str, ...]:
    """Return those of the attacks asked for that can run on such images; the others are named in a note.

    Raises:
        UsageError: The only one cannot.
    """
    suits = {attack: unsuitable(attack, image_shape=image_shape, num_classes=num_classes) for attack in attacks}
    for problem in filter(None, suits.values()):
        if len(attacks) == 1:
            raise UsageError(f"--attack: {problem}")
        notes().print(f"left out: {problem}")
    return tuple(attack for attack, problem in suits.items() if problem is None)
