"""Attacks by name: `(model, x, y, /, *, ascent, generator) -> points`."""

import importlib.util
from typing import Any

from trainables.registry import Registry, takes


def _check(attack: Any) -> str | None:
    """Return what is wrong with the signature of a user's own attack; the former one is accepted too."""
    former = takes(3, "threat", "steps", "restarts", "generator")
    return former(attack) and takes(3, "ascent", "generator")(attack)


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
    check=_check,
)

_PACKAGED = ("apgd_t", "autoattack")

SMALLEST_SIDE = 5
"""Smallest height and width of images for AutoAttack's package: Square's first l2 steps divide them by five."""

FEWEST_CLASSES = 4
"""Fewest classes on which the targeted DLR loss is defined."""


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


def unsuitable(attack: str, /, *, image_shape: tuple[int, ...], num_classes: int) -> str | None:
    """Return why an attack cannot run on images of a shape (c, h, w) and a number of classes, or None."""
    if attack in _PACKAGED and (len(image_shape) != 3 or min(image_shape[1:]) < SMALLEST_SIDE):
        smallest = f"{SMALLEST_SIDE}x{SMALLEST_SIDE}"
        return f"attack {attack} takes images (n, c, h, w) of {smallest} and up, got {image_shape}"
    if attack == "apgd_t" and num_classes < FEWEST_CLASSES:
        return f"attack {attack} needs at least {FEWEST_CLASSES} classes, got {num_classes}: use multi_targeted"
    return None
