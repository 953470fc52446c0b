"""AutoAttack, from its authors' package, on the images that PGD does not fool; its targeted APGD also alone.

Source: Croce & Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free
attacks" (arXiv 2003.01690); the package `pyautoattack`.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.attacks import FEWEST_CLASSES, require_package, unsuitable
from trainables.attacks.base import BATCH_SIZE, FlaggedPoints, is_correct
from trainables.attacks.pgd import pgd
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.models.inputs import memory_format

TARGET_CLASSES = 9
"""Most classes that the standard set targets; K - 1 if that is fewer."""

SQUARE_QUERIES = 5000
"""Queries of Square per image in the standard set."""

_LOGGER = "auto-attack"
_NORMS = {"linf": "Linf", "l2": "L2"}
_FLAGS = {
    "randomized defense": "nondeterministic",
    "probability distribution": "probabilities",
    "zero gradient": "autoattack_zero_gradient",
    "Square Attack has decreased": "autoattack_square_stronger",
    "dynamic defense": "autoattack_dynamic",
    "classes it is not possible": "autoattack_reduced",
}
"""Words in the package's own warnings, and the flag that each becomes."""


def autoattack(
    model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator
) -> FlaggedPoints:
    """Run PGD, then AutoAttack's standard set on the images that PGD does not fool; slow.

    Given the draws of `pgd`, its PGD is the same, so an image that PGD fools is fooled here too. The standard set is
    APGD on cross-entropy, targeted APGD on DLR, targeted FAB and Square, against at most K - 1 classes. Targeted DLR
    needs 4 classes: with 3, untargeted DLR replaces it, with 2, nothing does; either way the result carries the flag
    `autoattack_reduced`. See `Attack` for the arguments: steps and restarts are PGD's, AutoAttack uses its own
    settings; PGD's starts, then AutoAttack's seed, are drawn from the generator.

    Returns:
        Points that are misclassified wherever either attack finds such a point, and the package's own warnings as
        flags.

    Raises:
        MissingExtraError: `pyautoattack` is not installed.
        ValueError: Images without the dimensions channel, height and width, or too small ones.
    """
    _check("autoattack", x)
    points = pgd(model, x, y, ascent=ascent, generator=generator)
    with torch.no_grad():
        logits = model(points)
    remaining, classes = is_correct(logits, y).nonzero().squeeze(1), logits.shape[1]
    if ascent.threat.epsilon == 0 or len(remaining) == 0:
        return FlaggedPoints(points, frozenset())
    dlr = {2: [], 3: ["apgd-dlr"]}.get(classes, ["apgd-t"])
    attacks = ["apgd-ce", *dlr, "fab-t", "square"]
    options: dict[str, Any] = {"classes": classes, "threat": ascent.threat, "generator": generator}
    fooling, flags = _run(model, x[remaining], y[remaining], attacks, **options)
    points = points.clone()
    points[remaining] = fooling
    return FlaggedPoints(points, flags | {"autoattack_reduced"} if classes < FEWEST_CLASSES else flags)


def apgd_t(model: nn.Module, x: Tensor, y: Tensor, /, *, ascent: Ascent, generator: torch.Generator) -> FlaggedPoints:
    """Run AutoAttack's targeted APGD on DLR alone, towards the nine likeliest wrong classes.

    See `Attack` for the arguments; steps and restarts are those towards each class.

    Returns:
        Points, and the package's own warnings as flags.

    Raises:
        MissingExtraError: `pyautoattack` is not installed.
        ValueError: Fewer than 4 classes, on which targeted DLR is not defined, or images as in `autoattack`.
    """
    _check("apgd_t", x)
    with torch.no_grad():
        classes = model(x[:1]).shape[1]
    _check("apgd_t", x, classes=classes)
    if ascent.threat.epsilon == 0:
        return FlaggedPoints(x, frozenset())
    options: dict[str, Any] = {"classes": classes, "threat": ascent.threat, "generator": generator}
    effort = {"n_iter": ascent.steps, "n_restarts": ascent.restarts}
    return FlaggedPoints(*_run(model, x, y, ["apgd-t"], **options, apgd_t=effort))


def _check(attack: str, x: Tensor, *, classes: int = FEWEST_CLASSES) -> None:
    require_package(attack)
    if problem := unsuitable(attack, image_shape=tuple(x.shape[1:]), num_classes=classes):
        raise ValueError(problem)


def _run(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    attacks: list[str],
    *,
    classes: int,
    threat: ThreatModel,
    generator: torch.Generator,
    apgd_t: Mapping[str, int] | None = None,
) -> tuple[Tensor, frozenset[str]]:
    """Run attacks of the package one after the other, each on what the earlier ones leave."""
    from pyautoattack import AutoAttack

    seed = int(torch.randint(2**31, (), generator=generator, device=x.device))
    with _undisturbed(model, x.device), _warnings() as flags:
        attack = AutoAttack(
            _adapted(model),
            attacks=attacks,
            device=x.device,
            eps=threat.epsilon,
            norm=_NORMS[threat.norm],
            seed=seed,
            version="custom",
        )
        attack.verbose = False
        attack.apgd.n_restarts = attack.apgd_targeted.n_restarts = attack.fab.n_restarts = 1
        attack.apgd_targeted.n_target_classes = attack.fab.n_target_classes = min(TARGET_CLASSES, classes - 1)
        attack.square.n_queries = SQUARE_QUERIES
        vars(attack.apgd_targeted).update(apgd_t or {})
        points, _ = attack.run_standard_evaluation(x.contiguous(), y, batch_size=BATCH_SIZE)
    return points, frozenset(flags)


def _adapted(model: nn.Module) -> Callable[[Tensor], Tensor]:
    """Return the model for code that calls `view` on gradients and `backward` on any output.

    Gradients are contiguous in any memory layout, and a model whose logits do not depend on its input has a gradient
    of zero instead of none.
    """
    layout = memory_format(model)

    def forward(x: Tensor) -> Tensor:
        logits: Tensor = model(_ContiguousGradient.apply(x).contiguous(memory_format=layout))  # type: ignore[no-untyped-call]
        return logits if logits.requires_grad or not x.requires_grad else logits + 0 * x.sum()

    return forward


class _ContiguousGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient.contiguous()


@contextlib.contextmanager
def _undisturbed(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Undo the package's side effects.

    It seeds torch's global generators, accumulates gradients of the parameters, prints, and turns off tracing by
    debuggers and coverage.
    """
    trace = sys.gettrace()
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in parameters:
        parameter.requires_grad = False
    try:
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        for parameter in parameters:
            parameter.requires_grad = True
        sys.settrace(trace)


@contextlib.contextmanager
def _warnings() -> Iterator[set[str]]:
    """Collect the package's warnings as flags instead of showing them."""
    from pyautoattack import checks

    # The package counts calls per process, so one dynamic model would make every later one look dynamic.
    checks.funcs.update(dict.fromkeys(checks.funcs, 0))
    logger = logging.getLogger(_LOGGER)
    handler = _FlagHandler()
    propagated, level = logger.propagate, logger.level
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield handler.flags
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagated
        logger.setLevel(level)


class _FlagHandler(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.flags: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        flags = [flag for words, flag in _FLAGS.items() if words in text]
        self.flags.update(flags or ["autoattack_warning"])
