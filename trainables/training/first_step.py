"""A trial on two images: it shows before a study starts whether a user's own code works."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch

from trainables.attacks import ATTACKS
from trainables.attacks.base import load_attack, run_attack
from trainables.attacks.threat import Ascent, ThreatModel
from trainables.data.base import ImageData, Split
from trainables.methods import METHODS
from trainables.models import MODELS
from trainables.models.own import logits_apart
from trainables.registry import must_return
from trainables.runtime import computing
from trainables.spec import TrialSpec
from trainables.training.batches import Pool
from trainables.training.loop import Makers, Trainer
from trainables.training.pseudo_labels import untrained

_NUM_IMAGES = 2


def take_first_step(spec: TrialSpec, data: ImageData, /) -> None:
    """Attack, train and measure a trial on two images, on the CPU.

    Args:
        spec: The trial's spec; of its pool or `training.extra` no image is read, and its helper is not trained.
        data: Its data set.

    Raises:
        OwnCodeError: The user's own method, model or attack failed, or returned something else than it must.
        Exception: Any other error of the step.
    """
    few = replace(data, train=_first(data.train), val=_first(data.val))

    def pool(*_: Any, **__: Any) -> Pool:
        return Pool(few.train.images, few.train.labels, few.scale)

    makers: Makers = {"pool": pool, "extra": pool, "helper": untrained}
    trainer = Trainer(_shortened(spec), data=few, device="cpu", makers=makers)
    images, model = torch.from_numpy(few.val.images) / few.scale, trainer.measured
    ascent = Ascent(ThreatModel(spec.evaluation.norm, spec.evaluation.epsilon), steps=1, restarts=1)
    with computing(threads=spec.training.threads):
        logits = logits_apart(model, images, name=spec.model.name)
        if not logits.isfinite().all():
            given = f"images {tuple(images.shape)} before its training"
            raise must_return(MODELS.kind, spec.model.name, given, "finite logits, got NaN or infinity")
        # as the network labels them, since misclassified images are not attacked
        labels, attack = logits.argmax(1), spec.evaluation.attack
        before = copy.deepcopy(model.state_dict())
        run_attack(load_attack(attack), model, images, labels, ascent=ascent, seed=spec.seed)
        if any(not torch.equal(before[name], tensor) for name, tensor in model.state_dict().items()):
            required = "points and leave the network as it is, but changed its weights"
            raise must_return(ATTACKS.kind, attack, f"images {tuple(images.shape)}", required)
        if trainer.run_epoch()["loss"] is None:
            given = f"a step of {len(images)} images {tuple(images.shape)}"
            required = "a finite loss of an untrained network, got NaN or infinity"
            raise must_return(METHODS.kind, spec.method, given, required)
        logits_apart(model, images, name=spec.model.name)  # again: a last layer may begin with zeros


def _first(split: Split) -> Split:
    return Split(split.images[:_NUM_IMAGES], split.labels[:_NUM_IMAGES], split.index[:_NUM_IMAGES])


def _shortened(spec: TrialSpec) -> TrialSpec:
    training = replace(spec.training, epochs=1, batch_size=_NUM_IMAGES, attack_steps=1, compile=False)
    lipschitz = replace(spec.evaluation.lipschitz, steps=1, restarts=1)
    evaluation = replace(
        spec.evaluation, every=1, steps=1, restarts=1, checks="cheap", margin_check=False, lipschitz=lipschitz
    )
    return replace(spec, training=training, evaluation=evaluation)
