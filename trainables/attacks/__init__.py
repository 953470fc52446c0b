"""Attacks by name: `(model, x, y, /, *, threat, steps, restarts, generator) -> points`."""

from trainables.registry import Registry

ATTACKS = Registry("attack", {"pgd": "trainables.attacks.pgd:pgd"})
