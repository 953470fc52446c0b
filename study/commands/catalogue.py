"""What there is to choose from, with ranges and units."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable
from functools import partial
from importlib import resources
from pathlib import Path

from rich.table import Column, Table

from study.console import results
from study.errors import UsageError
from trainables.registry import nearest
from trainables.settings import Setting

IMAGES = ((3, 32, 32), (1, 28, 28))
"""Shapes of images: a model's parameters are counted for the first that it takes, with ten classes."""


def show(kind: str, /) -> None:
    """Print one of `KINDS`.

    Raises:
        UsageError: There is no such kind.
    """
    if kind not in KINDS:
        raise UsageError(f"list takes one of {', '.join(KINDS)}, got {kind!r}{nearest(kind, list(KINDS))}")
    results().print(KINDS[kind]())


def _methods() -> Table:
    from trainables.methods import METHODS
    from trainables.settings import settings_of

    table = Table("method", "hyperparameter", "default", "bounds", "meaning")
    for name in METHODS:
        method = METHODS.load(name)
        table.add_row(
            name,
            "train_epsilon" if method.attacks else "-",
            "",
            "[0, 1]; l2 beyond" if method.attacks else "",
            _summary(method),
        )
        for setting in settings_of(method).values():
            table.add_row(
                "", setting.name, str(setting.default), _bounds(setting), _with_unit(setting.doc, setting.unit)
            )
    return table


def _spaces() -> Table:
    from search_spaces import SPACES
    from trainables.methods import METHODS
    from trainables.spec import EvaluationSpec

    evaluation = EvaluationSpec()
    table = Table("space", "searched", "range", "of methods", "meaning")
    for name in SPACES:
        table.add_row(
            name, "method", "one of search.methods", "", f"ranges shown for evaluation.epsilon {evaluation.epsilon:g}"
        )
        for dimension in SPACES.load(name)(methods=list(METHODS), evaluation=evaluation):
            owners = "all" if dimension.methods is None else ", ".join(dimension.methods)
            meaning = _with_unit(dimension.setting.doc, dimension.setting.unit)
            table.add_row("", dimension.key, dimension.describe(), owners, meaning)
    return table


def _samplers() -> Table:
    from study.search.samplers import SAMPLERS

    table = Table("sampler", "choose it for", "cost of a proposal", "limits", "random share")
    for name, kind in SAMPLERS.items():
        share = "search.random_fraction" if kind.adaptive else "all" if name == "random" else "none"
        table.add_row(name, kind.best_for, kind.cost, kind.limits, share)
    return table


def _presets() -> Table:
    from study.config.loading import load_config, presets

    table = Table("preset", "data set", "model", "trials", "epsilon", "about")
    for name, path in presets().items():
        config = load_config(name)
        about = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("#").strip()
        epsilon = f"{config.evaluation.epsilon:.4g} ({config.evaluation.norm})"
        table.add_row(name, config.dataset.name, config.model.name, str(config.num_trials), epsilon, about)
    return table


def _schedulers() -> Table:
    from study.config.early_stopping import SCHEDULERS, SETTINGS

    table = Table("scheduler", "settings", "about")
    for name, about in SCHEDULERS.items():
        table.add_row(name, ", ".join(SETTINGS[name]) or "-", about)
    return table


def _named(kind: str) -> Table:
    from trainables.attacks import ATTACKS
    from trainables.data import DATASETS

    registry = {"datasets": DATASETS, "attacks": ATTACKS}[kind]
    table = Table(registry.kind, "about")
    for name in registry:
        table.add_row(name, _summary(registry.load(name)))
    return table


def _models() -> Table:
    from trainables.models import MODELS

    table = Table("model", Column("parameters", justify="right"), "for 10 classes of", "about")
    for name in MODELS:
        parameters, shape = _parameters(name)
        table.add_row(name, f"{parameters:,}", "x".join(map(str, shape)), _summary(MODELS.load(name)))
    return table


def _parameters(name: str) -> tuple[int, tuple[int, int, int]]:
    import torch

    from trainables.models import MODELS

    # without weights: the largest networks hold hundreds of megabytes of them
    with torch.device("meta"):
        for shape in IMAGES:
            with contextlib.suppress(ValueError):
                model = MODELS.load(name)(image_shape=shape, num_classes=10, dropout=0.0)
                return sum(parameter.numel() for parameter in model.parameters()), shape
    raise AssertionError(f"model {name} takes none of {IMAGES}")


def _summary(item: object) -> str:
    about = getattr(item, "about", None)
    return about if isinstance(about, str) else (inspect.getdoc(item) or "").partition("\n")[0]


def _bounds(setting: Setting) -> str:
    if setting.choices:
        return ", ".join(map(str, setting.choices))
    if setting.low is None and setting.high is None:
        return ""
    low = -math.inf if setting.low is None else setting.low
    high = math.inf if setting.high is None else setting.high
    return f"[{low:g}, {high:g}]"


def _with_unit(doc: str, unit: str) -> str:
    return f"{doc} ({unit})" if unit else doc


def templates() -> dict[Path, str]:
    """Return the files that start a cluster, to be copied and filled in, each with what it is."""
    folder = Path(str(resources.files("study") / "cluster" / "templates"))
    comments_of = {}
    for path in sorted(folder.iterdir()):
        comments = (line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("# "))
        comments_of[path] = next(comments).removeprefix("# ")
    return comments_of


def _templates() -> str:
    return "\n".join(f"{path}\n    {comment}" for path, comment in templates().items())


KINDS: dict[str, Callable[[], Table | str]] = {
    "methods": _methods,
    "datasets": partial(_named, "datasets"),
    "models": _models,
    "spaces": _spaces,
    "attacks": partial(_named, "attacks"),
    "samplers": _samplers,
    "schedulers": _schedulers,
    "presets": _presets,
    "templates": _templates,
}
