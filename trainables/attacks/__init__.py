"""Attacks by name: `(model, x, y, /, *, ascent, generator) -> points`."""

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
