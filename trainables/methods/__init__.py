"""Training methods by name; each is one file of this package or of its extensions."""

import dataclasses
from typing import Any

from trainables.registry import Registry, takes


def _check(method: Any) -> str | None:
    """Return what is missing in a user's own method of `trainables.methods.base.Method`."""
    if not isinstance(method, type) or not dataclasses.is_dataclass(method):
        return "must be a dataclass of its hyperparameters"
    # every class has a `__call__` of its metaclass
    inherited = {name for base in method.__mro__ for name in vars(base)}
    missing = [name for name in ("attacks", "__call__") if name not in inherited]
    if missing:
        return f"must have {' and '.join(f'`{name}`' for name in missing)}"
    attacks = getattr(method, "attacks", None)
    if not isinstance(attacks, bool):
        return f"must have `attacks` True or False, got {attacks!r}"
    problem = takes(2)(method.__call__)
    return problem and f"has a `__call__` that must take itself and a step: {problem.partition(': ')[2]}"


_PAPER = {
    "natural": "trainables.methods.natural:Natural",
    "gradient_regularization": "trainables.methods.gradient_regularization:GradientRegularization",
    "locally_linear": "trainables.methods.locally_linear:LocallyLinear",
    "adversarial_training": "trainables.methods.adversarial_training:AdversarialTraining",
    "robust_self_training": "trainables.methods.robust_self_training:RobustSelfTraining",
    "trades": "trainables.methods.trades:Trades",
}

_EXTENSIONS = {
    "lipschitz_penalty": "trainables.methods.extensions.lipschitz_penalty:LipschitzPenalty",
    "fat": "trainables.methods.extensions.fat:Fat",
    "hat": "trainables.methods.extensions.hat:Hat",
    "mart": "trainables.methods.extensions.mart:Mart",
    "score": "trainables.methods.extensions.score:Score",
    "n_fgsm": "trainables.methods.extensions.n_fgsm:NFgsm",
    "mtl_ibp": "trainables.methods.extensions.mtl_ibp:MtlIbp",
    "large_margin": "trainables.methods.extensions.large_margin:LargeMargin",
}

PAPER_METHODS = tuple(_PAPER)
"""The methods that Yang et al. 2020 compared: those of a study that names none."""

METHODS = Registry("method", _PAPER | _EXTENSIONS, check=_check)
