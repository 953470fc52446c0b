"""Attacks by name: `(model, x, y, /, *, ascent, generator) -> points`."""

from trainables.registry import Registry

ATTACKS = Registry(
    "attack",
    {
        "fgsm": "trainables.attacks.fgsm:fgsm",
        "pgd": "trainables.attacks.pgd:pgd",
        "multi_targeted": "trainables.attacks.multi_targeted:multi_targeted",
        "autoattack": "trainables.attacks.autoattack:autoattack",
    },
)
