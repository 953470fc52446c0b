"""The spec of one trial: everything its result depends on, as plain frozen dataclasses.

Importing this module loads only the standard library. A study's config builds specs from proposals;
`trainables.training.fit.fit` runs one.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_type_hints

from trainables.registry import nearest
from trainables.settings import check, largest_radius, radius, setting

Norm = Literal["linf", "l2"]

Mode = Literal["eval", "train"]

SCHEDULES = ("constant", "cosine", "piecewise", "milestones")

_MILESTONES = {
    20: (10, 15),
    30: (15, 25),
    40: (20, 30),
    50: (25, 40),
    60: (30, 50),
    70: (40, 60),
    80: (30, 50, 70),
    120: (40, 80, 100),
    160: (40, 80, 120, 140),
}

_LONGER = (60, 100, 140, 180)


class _Checked:
    """A part of a spec, whose settings are checked when it is created."""

    # For pydantic, as a study's config nests these classes: unknown keys are errors.
    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, kw_only=True)
class DatasetSpec(_Checked):
    """Which images, and how they are split."""

    name: str = setting(doc="registered data set, folder of Parquet image files, or package.module:object")
    root: str | None = setting(None, doc="folder that holds the data set's files")
    train_size: int | None = setting(None, doc="training images kept after the validation split", unit="images", low=1)
    val_fraction: float = setting(0.1, doc="share of the full training set held out for validation", low=0.01, high=0.5)


@dataclass(frozen=True, kw_only=True)
class ModelSpec(_Checked):
    """Which network."""

    name: str = setting("cnn_small", doc="registered model or package.module:object")
    dropout: float = setting(0.0, doc="dropout rate", unit="probability", low=0.0, high=0.95, search=(0.0, 0.5))


@dataclass(frozen=True, kw_only=True)
class CraftMode(_Checked):
    """The model's mode while a training attack is crafted."""

    bn: Mode = setting("eval", doc="batch normalisation while crafting", choices=("eval", "train"))
    dropout: Mode = setting("eval", doc="dropout while crafting", choices=("eval", "train"))

    def __str__(self) -> str:
        return f"bn={self.bn},dropout={self.dropout}"

    @classmethod
    def of(cls, value: CraftMode | Mapping[str, Any] | str, /) -> CraftMode:
        """Parse a mode from a mapping, or from its form in results: `bn=eval,dropout=train`.

        Raises:
            ValueError: `value` is neither.
        """
        if isinstance(value, CraftMode):
            return value
        if isinstance(value, str):
            parts = (part.strip().partition("=") for part in value.split(","))
            value = {name: mode for name, _, mode in parts}
        try:
            return cls(**value)
        except TypeError as error:
            raise ValueError(f"`craft_mode` must look like bn=eval,dropout=train, got {value!r}") from error


@dataclass(frozen=True, kw_only=True)
class TrainingSpec(_Checked):
    """How the network is trained."""

    epochs: int = setting(20, doc="passes over the training split", unit="epochs", low=1, high=100_000)
    batch_size: int = setting(128, doc="images per step", unit="images", low=1)
    optimizer: Literal["sgd", "adam"] = setting("sgd", doc="optimiser", choices=("sgd", "adam"))
    lr: float = setting(0.1, doc="initial learning rate", low=0.0, high=100.0, search=(0.01, 0.3), log=True)
    momentum: float = setting(0.9, doc="momentum of sgd", low=0.0, high=0.999)
    schedule: Literal["constant", "cosine", "piecewise", "milestones"] = setting(
        "cosine", doc="learning rate schedule; milestones: drops as in the paper's code", choices=SCHEDULES
    )
    warmup: float = setting(
        0.1,
        doc="share of the training steps over which the learning rate rises from 0 to the schedule's; 0: none",
        low=0.0,
        high=0.99,
        before=0.0,
    )
    ramp: float = setting(
        0.3,
        doc="share of the training steps over which train_epsilon and the weights of the method's loss rise; 0: none",
        low=0.0,
        high=0.99,
        before=0.0,
    )
    clip_norm: float | None = setting(
        3.0, doc="largest l2 norm of a step's gradient, which is scaled down to it; null: any", low=1e-6, before=None
    )
    give_up_after: float | None = setting(
        0.5,
        doc="share of the epochs after which a trial that has collapsed to one class fails; null: never",
        low=0.0,
        high=1.0,
        before=None,
    )
    weight_decay: float = setting(
        5e-4, doc="l2 penalty of the optimiser", low=0.0, high=1.0, search=(1e-5, 1e-2), log=True
    )
    augment: Literal["none", "crop", "crop_flip"] = setting(
        "none", doc="random augmentation of training images", choices=("none", "crop", "crop_flip")
    )
    attack_steps: int = setting(10, doc="PGD steps of training attacks", unit="steps", low=1)
    awp: float = setting(
        0.0,
        doc="adversarial weight perturbation of methods that attack: how far up the loss each weight tensor is moved, "
        "as a share of its norm, for a step's gradient; rises over ramp; 0: none",
        low=0.0,
        high=1.0,
        search=(0.001, 0.01),
        log=True,
        before=0.0,
    )
    bounds_power: float = setting(
        4.0,
        doc="power with which the radius of mtl_ibp's bounds rises over the first 60 % of the training steps",
        low=1.0,
        high=10.0,
        before=1.0,
    )
    ema: float | None = setting(
        None,
        doc="decay of a running average of the weights, which is measured instead of them; null: none",
        low=0.0,
        high=0.99999,
    )
    ema_warmup: bool = setting(
        False,  # noqa: FBT003 - a default, not a flag passed by position
        doc="shorter average in the first steps, at most (1 + t) / (10 + t), instead of one without bias at any length",
        choices=(False, True),
        before=True,
    )
    extra: str | None = setting(
        None,
        doc="further images with labels, such as generated ones: a data set, Parquet files, package.module:object",
        before=None,
    )
    extra_share: float = setting(
        0.5, doc="share of each batch that is from extra", low=0.01, high=0.95, search=(0.2, 0.8), before=0.5
    )
    precision: Literal["fp32", "bf16"] = setting(
        "fp32",
        doc="arithmetic of training; measurements, differences and bounds of GR, LLR, LipPen and MTL-IBP stay in fp32",
        choices=("fp32", "bf16"),
    )
    compile: bool = setting(
        False,  # noqa: FBT003 - a default, not a flag passed by position
        doc="train with torch.compile; a CPU needs g++ and Python's headers; falls back to plain execution",
        choices=(False, True),
    )
    craft_mode: CraftMode = setting(factory=CraftMode, doc="model's mode while a training attack is crafted")
    threads: int = setting(1, doc="CPU threads of torch", unit="threads", low=1)


@dataclass(frozen=True, kw_only=True)
class LipschitzSpec(_Checked):
    """How local Lipschitzness is estimated."""

    steps: int = setting(20, doc="ascent steps", unit="steps", low=1)
    restarts: int = setting(
        2, doc="ascents from different starts, alternately in the whole and a shrinking ball", low=1
    )
    examples: int = setting(500, doc="examples measured per split", unit="images", low=1)


@dataclass(frozen=True, kw_only=True)
class EvaluationSpec(_Checked):
    """How a trained network is measured; the same for every trial of a study."""

    norm: Norm = setting("linf", doc="norm of the threat model", choices=("linf", "l2"))
    epsilon: float = radius(0.1, doc="radius of the threat model")
    attack: str = setting(
        "reachable_targets", doc="attack of the measurement: a registered name or package.module:object", before="pgd"
    )
    steps: int = setting(10, doc="steps of the attack", unit="steps", low=1)
    restarts: int = setting(1, doc="random restarts of the attack", low=1)
    examples: int = setting(1000, doc="examples measured per split, as many of train as of val", unit="images", low=1)
    every: int = setting(5, doc="epochs between measurements on validation", unit="epochs", low=1)
    lipschitz: LipschitzSpec = setting(factory=LipschitzSpec, doc="local Lipschitz estimate")
    margin_check: bool = setting(
        True,  # noqa: FBT003 - a default, not a flag passed by position
        doc="check attacks of fewer than 5 steps, or that do not climb margins, by one that does; flag margin_stronger",
        choices=(False, True),
        before=False,
    )
    certify: Literal["none", "ibp", "full"] = setting(
        "none",
        doc="bounds of val_certified_accuracy: none, by intervals on activations, or tightened by linear relaxations",
        choices=("none", "ibp", "full"),
        before="none",
    )
    checks: Literal["cheap", "full"] = setting(
        "cheap",
        doc="checks of finished trials' measurements; full ones cost three to four times the measurement",
        choices=("cheap", "full"),
    )

    def __post_init__(self) -> None:
        check(self, largest={"epsilon": largest_radius(self.norm)})


@dataclass(frozen=True, kw_only=True)
class TrialSpec(_Checked):
    """One trial. Equal specs on the same kind of machine give equal deterministic columns."""

    dataset: DatasetSpec
    method: str
    params: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    train_epsilon: float | None = radius(None, doc="radius of training attacks; null where the method has none")
    model: ModelSpec = dataclasses.field(default_factory=ModelSpec)
    training: TrainingSpec = dataclasses.field(default_factory=TrainingSpec)
    evaluation: EvaluationSpec = dataclasses.field(default_factory=EvaluationSpec)
    seed: int = 0

    def __post_init__(self) -> None:
        check(self, largest={"train_epsilon": largest_radius(self.evaluation.norm)})

    def to_dict(self) -> dict[str, Any]:
        """Return the spec as nested plain dicts, ready for JSON or YAML."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """Return the spec as canonical JSON: sorted keys, no white space."""
        return json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_dict(cls, tree: Mapping[str, Any], /) -> TrialSpec:
        """Build a spec from nested dicts; keys that are left out have today's defaults.

        A recorded spec is first filled by `trainables.settings.with_former_values`.

        Raises:
            ValueError: Unknown or missing keys, or values out of bounds; the message names the field.
        """
        spec: TrialSpec = _build(cls, tree, where="")
        return spec


def _build(cls: type, tree: Mapping[str, Any], *, where: str) -> Any:
    hints = get_type_hints(cls)
    unknown = [key for key in tree if key not in hints]
    if unknown:
        raise ValueError(f"unknown key `{where}{unknown[0]}`{nearest(unknown[0], list(hints))}")
    values = {
        key: _build(hints[key], value, where=f"{where}{key}.")
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, Mapping)
        else value
        for key, value in tree.items()
    }
    try:
        return cls(**values)
    except TypeError as error:
        raise ValueError(f"{where.rstrip('.') or 'spec'}: {error}") from error


def drops(schedule: str, /, *, epochs: int) -> tuple[float, ...]:
    """Return the fractions of training at which the learning rate drops to a tenth, ascending; none if it is smooth.

    Args:
        schedule: One of `SCHEDULES`. `milestones` drops after whole epochs that depend on their number.
        epochs: Epochs of the whole training.

    Source: `milestones` is `get_scheduler` of the code published with Yang et al. 2020
    (lolip/models/torch_utils/__init__.py).
    """
    if schedule == "piecewise":
        return (0.5, 0.75)
    if schedule == "milestones":
        milestones = next((after for longest, after in _MILESTONES.items() if epochs <= longest), _LONGER)
        return tuple(epoch / epochs for epoch in milestones if epoch < epochs)
    return ()
