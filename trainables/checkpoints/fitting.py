"""Find which sets of weights of a checkpoint fit a network, under the prefixes and beside the layers of any wrapper."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from trainables.checkpoints.format import CheckpointError
from trainables.checkpoints.weight_files import TOP, without_values
from trainables.checkpoints.weights import mismatch

Sets = Mapping[str, Mapping[str, Tensor]]

_COMPILED = re.compile(r"(?<![^.])(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
"""Parts of names that wrappers put before a layer anywhere in a network."""

_CONSTANT = re.compile(r"((?:.*[._])?)(mean|mu|std|sigma)")
_DEVIATION = {"mean": "std", "mu": "sigma"}


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A set of weights that fits a network.

    Attributes:
        name: Its place in the file, then its prefix: `state_dict`, `ema/module`; `top` for neither.
        module: The network, or its only child with parameters, such as a wrapped network.
        child: Name of that child; None for the network itself.
        state: The tensors by the module's own names.
        normalisation: Mean and deviation of a normalisation layer that the file has beside the network; None for none.
        kept: Names of normalisation constants that the network has and the file does not.
        equal: Names of the other sets that hold the same.
    """

    name: str
    module: nn.Module
    child: str | None
    state: dict[str, Tensor]
    normalisation: tuple[Tensor, Tensor] | None
    kept: tuple[str, ...] = ()
    equal: tuple[str, ...] = ()

    def load(self) -> None:
        """Copy the tensors into the module, in its own types."""
        self.module.load_state_dict(self.state, strict=False)

    def same_as(self, other: Fit, /) -> bool:
        """Return whether another fit gives the same network."""
        return (
            self.child == other.child
            and _equal(self.state, other.state)
            and _same(self.normalisation, other.normalisation)
        )


def fit_weights(model: nn.Module, sets: Sets, /, *, source: Path | str, name: str | None = None) -> Fit:
    """Return the set of weights that fits a network; nothing is loaded.

    Prefixes, such as those of DataParallel, `torch.compile` and Lightning, are dropped. Whole numbers beside the
    network are ignored, as counters of averages and metrics.

    Args:
        model: The network; a wrapped one, such as `trainables.models.build_model` returns, has the bare network as
            a child.
        sets: As `read_sets` returns them.
        source: Their file, for messages.
        name: Which set; None for the only one that fits, where equal ones count once.

    Raises:
        CheckpointError: None fits, or several do that differ, or the named one does not; its values are not finite.
    """
    fits = [fit for place, tensors in sets.items() for fit in _fits(model, place, _plain_names(tensors))]
    if not fits:
        raise CheckpointError(f"{source} does not fit the model: {_problem(model, sets)}")
    if name is not None:
        chosen = [fit for fit in fits if fit.name == name]
        if not chosen:
            raise CheckpointError(f"{source} has no weights {name!r} that fit; it has: {_names(fits)}")
        fits = chosen
    first = fits[0]
    if not all(first.same_as(fit) for fit in fits[1:]):
        raise CheckpointError(f"{source} holds different weights that fit, {_names(fits)}: choose with --weights NAME")
    for key, value in first.state.items():
        if value.is_floating_point() and not torch.isfinite(value.float()).all():
            raise CheckpointError(
                f"{source}: {key} has values that are not finite in float32: training diverged, or it is damaged"
            )
    return replace(first, equal=tuple(fit.name for fit in fits[1:]))


def _names(fits: Iterable[Fit]) -> str:
    return ", ".join(fit.name for fit in fits)


def _plain_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    plain = {_COMPILED.sub("", key): value for key, value in tensors.items()}
    return plain if len(plain) == len(tensors) else dict(tensors)


def _fits(model: nn.Module, place: str, tensors: dict[str, Tensor]) -> list[Fit]:
    """Return the fits of a set: for the network, else for its child, else for the network with constants of its own."""
    children = [(name, child) for name, child in model.named_children() if _has_all_state(child, model)]
    own = tuple(name for pair in _pairs(dict(model.named_buffers())) for name in pair)
    for child, module, optional in [(None, model, ()), *((*one, ()) for one in children), (None, model, own)]:
        places = _places(module, tensors, optional)
        used = {f"{prefix}{name}" for prefix, state in places.items() for name in state}
        rest = {key: value for key, value in tensors.items() if key not in used and not _is_counter(value)}
        pairs = _pairs(rest)
        constants = [(rest[mean], rest[deviation]) for mean, deviation in pairs]
        is_clear = len(rest) == 2 * len(pairs) and all(_same(constants[0], one) for one in constants)
        if places and is_clear:
            return [
                Fit(
                    name="/".join(filter(None, ["" if place == TOP else place, prefix.rstrip(".")])) or TOP,
                    module=module,
                    child=child,
                    state=state,
                    normalisation=constants[0] if constants else None,
                    kept=tuple(name for name in own if child is not None or name not in state),
                )
                for prefix, state in places.items()
            ]
    return []


def _places(module: nn.Module, tensors: dict[str, Tensor], optional: tuple[str, ...]) -> dict[str, dict[str, Tensor]]:
    """Return the prefixes under which all of a module's tensors are, and those tensors by the module's names."""
    expected = [name for name in module.state_dict() if name not in optional]
    anchor = next((name for name in expected if not name.endswith("num_batches_tracked")), None)
    if anchor is None:
        return {}
    places = {}
    for prefix in [key.removesuffix(anchor) for key in tensors if f".{key}".endswith(f".{anchor}")]:
        state = {name: tensors[prefix + name] for name in expected if prefix + name in tensors}
        if mismatch(module, state, optional=optional) is None:
            places[prefix] = state
    return places


def _pairs(tensors: Mapping[str, Tensor]) -> list[tuple[str, str]]:
    """Return the names of means and deviations that belong together."""
    tensors = {name: value for name, value in tensors.items() if not without_values(value)}
    matches = filter(None, map(_CONSTANT.fullmatch, tensors))
    pairs = [(match[0], f"{match[1]}{_DEVIATION.get(match[2])}") for match in matches]
    return [(mean, deviation) for mean, deviation in pairs if deviation in tensors]


def _is_counter(value: Tensor) -> bool:
    return value.numel() == 1 and not value.is_floating_point() and not value.is_complex()


def _equal(first: Mapping[str, Tensor], second: Mapping[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def _same(first: tuple[Tensor, Tensor] | None, second: tuple[Tensor, Tensor] | None) -> bool:
    if first is None or second is None:
        return first is second
    return all(torch.equal(one.flatten(), other.flatten()) for one, other in zip(first, second, strict=True))


def _problem(model: nn.Module, sets: Sets) -> str:
    """Return why the largest set fits neither a network nor, without the wrapper's names, the network in it."""
    tensors = _plain_names(max(sets.values(), key=len))
    inner = dict(model.named_children()).get("network")
    is_bare = inner is not None and not any("network." in key for key in tensors)
    module = inner if inner is not None and is_bare else model
    prefixes = Counter(
        key.removesuffix(name) for name in module.state_dict() for key in tensors if f".{key}".endswith(f".{name}")
    )
    prefix = prefixes.most_common(1)[0][0] if prefixes else ""
    state = {
        key.removeprefix(prefix): value
        for key, value in tensors.items()
        if not _is_counter(value) or key.startswith(prefix)
    }
    problem = mismatch(module, state) or ""
    if problem.startswith("unexpected"):
        problem += " (leave them out of the file, or name a --model that has them)"
    return problem


def _has_all_state(child: nn.Module, model: nn.Module) -> bool:
    """Return whether `child` has all the model's parameters and running statistics, and at least one parameter."""
    inside = {id(module) for module in child.modules()}
    outside = [module for module in model.modules() if id(module) not in inside]
    parameters = {id(parameter) for parameter in child.parameters()}
    statistics = any("running_mean" in dict(module.named_buffers(recurse=False)) for module in outside)
    return bool(parameters) and parameters == {id(parameter) for parameter in model.parameters()} and not statistics
