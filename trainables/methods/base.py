"""The interface of training methods, and how one is built from a spec's plain values."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from trainables.attacks.pgd import craft
from trainables.attacks.threat import ThreatModel
from trainables.methods import METHODS
from trainables.models.modes import frozen_statistics, mode
from trainables.models.own import describe
from trainables.registry import calling, is_import_string, must_return, nearest
from trainables.seeding import replay, seeded
from trainables.settings import check, settings_of
from trainables.spec import Mode, Norm


@dataclass(frozen=True)
class LossTerms:
    """The parts of a loss, unweighted and per example, and their weights.

    Attributes:
        parts: Name to values, (n,). A part of weight 0 is omitted rather than computed.
        weights: Name to the part's factor in the loss; 1 if a name is missing. They rise over `training.ramp`.
    """

    parts: Mapping[str, Tensor]
    weights: Mapping[str, float] = dataclasses.field(default_factory=dict)

    @property
    def total(self) -> Tensor:
        """The weighted sum of the parts, (n,)."""
        return functools.reduce(torch.add, (self.weights.get(name, 1) * part for name, part in self.parts.items()))


class _NoHelper(nn.Module):
    """In place of the helper of a method that declares none."""

    def forward(self, x: Tensor) -> Tensor:
        raise ValueError("`step.helper` needs `helper = True` on the method's class, got a method without")


@dataclass(frozen=True, kw_only=True)
class Step:
    """One training step: the input of a method.

    Attributes:
        model: In training mode, with the step's own stream of dropout masks.
        x: Images, (n, c, h, w) in [0, 1].
        y: Labels, (n,) int64.
        norm: Norm of the evaluation's threat model.
        threat: Ball of the training attack; None for methods without an attack.
        attack_steps: PGD steps.
        bn: Batch norm's mode while crafting.
        dropout: Dropout's mode while crafting.
        generator: For random starts; on the device of `x`.
        craft_seed: Seeds the dropout masks drawn while crafting.
        progress: Share of the training's steps taken before this one, in [0, 1): for schedules of a method's own.
        bounds_power: `training.bounds_power`.
        helper: For methods with `helper = True`: a network of the trial's model that was trained naturally on the
            training split; in eval mode, without gradients of its weights. It is the same in all steps.
        found: What the method's searches found, in order.
        earlier: What `find` returns instead of searching, in a step that is repeated.
    """

    model: nn.Module
    x: Tensor
    y: Tensor
    norm: Norm
    threat: ThreatModel | None
    attack_steps: int
    bn: Mode
    dropout: Mode
    generator: torch.Generator
    craft_seed: int
    progress: float = 0.0
    bounds_power: float = 4.0
    helper: nn.Module = dataclasses.field(default_factory=_NoHelper)
    found: list[Tensor] = dataclasses.field(default_factory=list)
    earlier: Iterator[Tensor] | None = None

    @property
    def network(self) -> nn.Module:
        """The model as its own layers, for methods that read them: what is compiled cannot be read."""
        return getattr(self.model, "model", self.model)

    @property
    def attacks(self) -> bool:
        """Whether there is a training attack of positive radius."""
        return self.threat is not None and self.threat.epsilon > 0

    @contextmanager
    def crafting(self) -> Iterator[None]:
        """Put the model in its craft mode; dropout masks are drawn apart from the training pass's stream."""
        with mode(self.model, bn=self.bn, dropout=self.dropout), seeded(self.craft_seed, device=self.x.device):
            yield

    def twin_pass(self) -> Callable[[], AbstractContextManager[None]]:
        """Return a context, to be created before the clean pass, for a second pass through the same network.

        Inside it dropout draws the same masks as the clean pass, and running statistics do not change.
        A loss on the difference of two passes needs it, as it would otherwise penalise dropout noise.
        """
        replayed = replay(device=self.x.device)

        @contextmanager
        def twin() -> Iterator[None]:
            with replayed(), frozen_statistics(self.model):
                yield

        return twin

    def full_precision(self) -> AbstractContextManager[Any]:
        """Return a context without mixed precision: the difference of two bf16 passes is mostly rounding."""
        return torch.autocast(self.x.device.type, enabled=False)

    def craft(self, objective: Callable[[Tensor], Tensor], /) -> Tensor:
        """Return PGD's last iterate on `objective` (logits to values (n,)), or `x` itself if there is no attack."""
        return self._climb(lambda: objective)

    def craft_away(self, divergence: Callable[[Tensor, Tensor], Tensor], /) -> Tensor:
        """Return PGD's last iterate on how far a point's logits are from the image's, or `x` if there is no attack.

        Args:
            divergence: Maps the image's logits, which are fixed, and the point's to values (n,).
        """

        def from_image() -> Callable[[Tensor], Tensor]:
            with self.crafting(), torch.no_grad():
                return partial(divergence, self.model(self.x))

        return self._climb(from_image)

    def _climb(self, objective: Callable[[], Callable[[Tensor], Tensor]]) -> Tensor:
        threat = self.threat
        if threat is None or not self.attacks:
            return self.x

        def search() -> Tensor:
            ascend = partial(craft, self.model, self.x, objective(), threat=threat, steps=self.attack_steps)
            with self.crafting():
                return ascend(generator=self.generator)

        return self.find(search)

    def find(self, search: Callable[[], Tensor], /) -> Tensor:
        """Return what a search of the ball finds; where the step is repeated at other weights, what it found before.

        Every search of a method of your own that is not `craft` belongs in here, for `training.awp`.
        """
        points = search() if self.earlier is None else next(self.earlier)
        self.found.append(points)
        return points

    def repeated(self, model: nn.Module, /) -> Step:
        """Return the same step of another network, whose searches find what those of this step found."""
        return dataclasses.replace(self, model=model, found=[], earlier=iter(self.found))


class Method(Protocol):
    """A robust loss: a frozen dataclass of its hyperparameters that maps a step to its loss.

    Five attributes are optional. `second_order = True` says that gradients of the input are differentiated again,
    which compiled networks cannot do. `helper = True`, or a property that is, asks for `Step.helper`. `pool` names a
    data set whose images join each batch with pseudo-labels. `paper` lists the settings that Yang et al. 2020 ran, by
    setting name: where a search may start. `bounds = True` says that it reads the network's layers as certificates do:
    a study whose network cannot be read so is refused.
    """

    attacks: ClassVar[bool]
    """Whether it takes a `train_epsilon`."""

    def __call__(self, step: Step, /) -> LossTerms:
        """Return the loss of one batch in named parts."""


def build_method(name: str, params: Mapping[str, Any], /) -> Method:
    """Return the method `name` with its hyperparameters.

    Args:
        name: Registered name or `package.module:object`.
        params: Hyperparameters by setting name; missing ones have their defaults.

    Raises:
        OwnCodeError: A method of your own raised an error when it was created.
        ValueError: The method or a parameter is unknown, or a value is out of bounds.
    """
    cls = METHODS.load(name)
    valid = list(settings_of(cls))
    for key in params:
        if key not in valid:
            listed = ", ".join(valid) or "none"
            raise ValueError(f"method {name!r} has no parameter `{key}`{nearest(key, valid)}; it has: {listed}")
    fields = {field.name.rstrip("_"): field.name for field in dataclasses.fields(cls)}
    with calling(METHODS.kind, name, ", ".join(f"{key}={value}" for key, value in params.items()) or "no arguments"):
        method: Method = cls(**{fields[key]: value for key, value in params.items()})
    check(method)
    return method


def unbuilt_method(name: str, params: Mapping[str, Any], /) -> Method:
    """Return a method of your own with nothing but its settings, for the row of a trial that cannot create it."""
    cls = METHODS.load(name)
    method: Method = object.__new__(cls)
    for field in dataclasses.fields(cls):
        default = None if field.default is dataclasses.MISSING else field.default
        object.__setattr__(method, field.name, params.get(field.name.rstrip("_"), default))
    return method


def terms_of(name: str, method: Method, step: Step, /) -> LossTerms:
    """Return a method's loss on a step; what a method of your own returns is checked.

    Args:
        name: Registered name or `package.module:object`.
        method: That method.
        step: n images.

    Raises:
        OwnCodeError: A method of your own raised an error or returned something else than terms of n values.
    """
    given = f"a step of {len(step.y)} images {tuple(step.x.shape)}"
    with calling(METHODS.kind, name, given):
        terms = method(step)
    problem = _problem(terms, num_images=len(step.y)) if is_import_string(name) else None
    if problem is not None:
        raise must_return(METHODS.kind, name, given, problem)
    return terms


def _problem(terms: Any, *, num_images: int) -> str | None:
    """Return what a loss must be and is not, or None."""
    if not isinstance(terms, LossTerms):
        return f"trainables.methods.base.LossTerms, got {describe(terms)}"
    if not terms.parts:
        return "at least one part of a loss, got none"
    for name, part in terms.parts.items():
        if not isinstance(part, Tensor) or part.shape != (num_images,):
            return f"one value an image in each part of the loss, ({num_images},); `{name}` is {describe(part)}"
    if unknown := [name for name in terms.weights if name not in terms.parts]:
        return f"weights of the parts {', '.join(terms.parts)} only, got one of `{unknown[0]}`"
    if not any(part.requires_grad for part in terms.parts.values()):
        return "a loss that depends on the network's weights, got parts without a gradient"
    return None


def check_radius(name: str, method: Method, train_epsilon: float | None, /) -> None:
    """Check that there is a training radius if and only if the method attacks.

    Raises:
        ValueError: There is not.
    """
    if method.attacks and train_epsilon is None:
        raise ValueError(f"`train_epsilon` must be a radius for method {name!r}, got null")
    if not method.attacks and train_epsilon is not None:
        raise ValueError(f"`train_epsilon` must be null for method {name!r}, got {train_epsilon:g}")
