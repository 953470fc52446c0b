"""Attacks by name: `(model, x, y, /, *, ascent, generator) -> points`."""

import importlib.util

from trainables.registry import Registry

ATTACKS = Registry(
    "attack",
    {
        "fgsm": "trainables.attacks.fgsm:fgsm",
        "pgd": "trainables.attacks.pgd:pgd",
        "margin": "trainables.attacks.margin:margin",
        "reachable_targets": "trainables.attacks.multi_targeted:reachable_targets",
        "multi_targeted": "trainables.attacks.multi_targeted:multi_targeted",
        "square": "trainables.attacks.square:square",
        "apgd_t": "trainables.attacks.autoattack:apgd_t",
        "autoattack": "trainables.attacks.autoattack:autoattack",
    },
)

_PACKAGED = ("apgd_t", "autoattack")


class MissingExtraError(ImportError):
    """An attack's package is not installed; the message names the extra that installs it."""


def require_package(attack: str, /) -> None:
    """Check that the package that an attack needs, if it needs one, is installed, without importing it.

    Raises:
        MissingExtraError: It is not installed.
    """
    if attack in _PACKAGED and importlib.util.find_spec("pyautoattack") is None:
        raise MissingExtraError(
            f"attack {attack} needs the package pyautoattack, which is not installed: "
            "in this project's clone, pip install '.[autoattack]'"
        )
