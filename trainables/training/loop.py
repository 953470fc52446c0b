"""The plain training loop: one trial, epoch by epoch, without a cluster or tracker."""

from __future__ import annotations

import datetime
import json
import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.checkpoints.files import join
from trainables.checkpoints.format import check_spec, read_checkpoint, write_checkpoint
from trainables.data import load_dataset
from trainables.data.base import ImageData, Split
from trainables.evaluation.evaluate import Measures, clean_measures
from trainables.evaluation.trial import TRAIN_CURVE, TRAIN_IMAGES, measure, measured_part, train_accuracies
from trainables.methods.base import LossTerms, build_method, check_radius
from trainables.models.modes import has_batch_statistics
from trainables.models.network import network
from trainables.runtime import computing
from trainables.settings import with_former_values
from trainables.spec import TrialSpec
from trainables.training.batch_loss import MicroBatches, loss_terms
from trainables.training.batches import TrainingBatches
from trainables.training.collapse import CollapseWatch
from trainables.training.compiling import compiled
from trainables.training.optimizers import build_optimizer, learning_rate, rise
from trainables.training.outcome import (
    DIVERGED,
    OUT_OF_MEMORY,
    Best,
    Outcome,
    best_columns,
    carried_columns,
    cost_columns,
    data_columns,
    epoch_rows,
    measure_columns,
    spec_columns,
)
from trainables.training.weight_average import WeightAverage

LAST, BEST, PARTIAL = "last.pt", "best.pt", "partial.pt"
"""The full state after an epoch, the network that validation selected, and the full state within a long epoch."""

BEST_CURVE = ("best_epoch", "best_val_clean_accuracy", "best_val_robust_accuracy")
"""Columns of an epoch's row on the best checkpoint so far, beside those on the last."""

Makers = Mapping[str, Callable[..., Any]]
"""What a method may ask for: of `spec`, `data` and `device`, `pool` makes a `Pool` of a name, `helper` a network."""


class Trainer:
    """One trial, run epoch by epoch.

    `save` writes its whole state: every draw is a function of the spec's seed, the epoch and the batch, so a trial
    that is saved and loaded continues exactly as without the interruption.

    Args:
        spec: The trial's spec.
        data: The data set of `spec.dataset`; loaded when None. The test split is not used.
        device: Device to compute on; None means CUDA if available.
        makers: Make the pool or the helper that the method asks for; see `fit.trainer_for`.

    Attributes:
        model: The network that is trained.
        best: The best checkpoint so far, None before the first measured epoch.

    Raises:
        ValueError: The spec contradicts itself or the data, or its method asks for what `makers` has not.
    """

    def __init__(
        self,
        spec: TrialSpec,
        /,
        *,
        data: ImageData | None = None,
        device: torch.device | str | None = None,
        makers: Makers | None = None,
    ) -> None:
        self._created = time.perf_counter()
        self.spec = spec
        self.method = build_method(spec.method, spec.params)
        check_radius(spec.method, self.method, spec.train_epsilon)
        data = load_dataset(spec.dataset) if data is None else data
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        self.model, self._layout = network(spec, data, device=self.device)
        training = spec.training
        self._average: WeightAverage | None = None
        if training.ema is not None:
            self._average = WeightAverage(self.model, decay=training.ema, warmup=training.ema_warmup)
        self._trained = self.model
        if training.compile:
            self._trained = compiled(self.model, second_order=getattr(self.method, "second_order", False))
        self.optimizer = build_optimizer(
            self.model, name=training.optimizer, momentum=training.momentum, weight_decay=training.weight_decay
        )
        self._train, self._val, self._scale = data.train, data.val, data.scale
        self._batches = TrainingBatches(
            data.train,
            scale=data.scale,
            size=training.batch_size,
            augmentation=training.augment,
            seed=spec.seed,
            device=self.device,
            layout=self._layout,
            keep_single=not has_batch_statistics(self.model),
            pool=self._made("extra" if training.extra else "pool", data, makers or {}),
        )
        self._helper = self._made("helper", data, makers or {})
        self._val_images, self._val_labels = self._measured_part(data.val)
        self._columns = spec_columns(spec, self.method) | data_columns(spec, data)
        self._micro = MicroBatches(self.model)
        self._collapse = CollapseWatch(training, self._val_images, self._val_labels, classes=data.num_classes)
        self.epoch, self._batch, self._sums = 0, 0, dict[str, Tensor]()
        self.reason: str | None = None
        self.history: list[dict[str, Any]] = []
        self.best: Best | None = None
        self._val_measures: Measures | None = None
        self._train_measures: Measures | None = None
        self._measured_epoch = 0
        self._started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        self._seconds = dict.fromkeys(("training", "attack", "lipschitz", "certify"), 0.0)
        self._seconds["total"] = time.perf_counter() - self._created

    @property
    def measured(self) -> nn.Module:
        """The network that is measured: the average of the weights if `training.ema` is set."""
        return self.model if self._average is None else self._average.model

    @property
    def done(self) -> bool:
        """Whether all epochs have run, or the trial has failed."""
        return self.reason is not None or self.epoch >= self.spec.training.epochs

    def run_epoch(self, *, between: Callable[[], None] | None = None) -> dict[str, Any]:
        """Train one epoch or the rest of it, measure if that is due, and return the epoch's row.

        A loss that is not finite ends the trial as `diverged`, a collapsed network (`training.give_up_after`) with a
        reason that says so. Batches that exceed the device's memory are halved from then on (`MicroBatches`); if halves
        or the measurement do, the trial ends as `out of memory`. Between batches `between` is called, which may `save`.

        Raises:
            RuntimeError: The trial is done.
        """
        if self.done:
            raise RuntimeError(f"the trial is done after epoch {self.epoch}; no epoch is left to run")
        started, number = time.perf_counter(), self.epoch + 1
        row: dict[str, Any] = {"epoch": number, "lr": self._learning_rate(0)}
        row |= dict.fromkeys(("loss", "val_clean_accuracy", "val_loss", *TRAIN_CURVE))
        with computing(threads=self.spec.training.threads):
            try:
                row |= self._run_epoch(started, between)
            except torch.OutOfMemoryError:
                self.epoch, self.reason = number, OUT_OF_MEMORY
        row |= carried_columns(None if self.reason else self._val_measures)
        row |= {name: value for name, value in best_columns(self.best).items() if name in BEST_CURVE}
        row["stale"] = self._measured_epoch != self.epoch
        row["seconds"] = time.perf_counter() - started
        self._seconds["total"] += row["seconds"]
        self.history.append(row)
        return dict(row)

    def outcome(self) -> Outcome:
        """Return the trial's current results.

        Validation is measured now if it has not been measured in the current epoch; the training split is measured
        only after the last epoch, so until then its columns and the gaps are null.

        Raises:
            RuntimeError: No epoch has run.
        """
        if self.epoch == 0:
            raise RuntimeError("there is no outcome before the first epoch")
        started = time.perf_counter()
        measures: dict[str, Measures | None] = {}
        if self.reason is None:
            val = self._val_measures
            with computing(threads=self.spec.training.threads):
                if self._measured_epoch != self.epoch:
                    val = self._measure(self._val_images, self._val_labels, split="val")
                if self.done and self._train_measures is None:
                    self._train_measures = self._measure(*self._measured_part(self._train), split="train")
            measures = {"train": self._train_measures, "val": val}
        self._seconds["total"] += time.perf_counter() - started
        flags = sorted({flag for split in measures.values() if split is not None for flag in split.flags})
        status = "failed" if self.reason else "completed" if self.done else "stopped_early"
        row: dict[str, Any] = {"status": status, "reason": self.reason, "flags": flags}
        row |= self._columns | measure_columns(measures) | best_columns(self.best)
        row |= {"epochs": self.epoch, "micro_batch": self._micro.size, "started_at": self._started_at}
        row |= cost_columns(self._seconds, images=self.epoch * self._batches.num_images, device=self.device)
        splits = {"train": self._train, "val": self._val}
        examples = {name: m.examples(splits[name].index) for name, m in measures.items() if m is not None}
        best = {} if self.best is None else {"val": self.best.measures.examples(self._val.index)}
        return Outcome(status, self.reason, row, epoch_rows(self.history, measures.get("train")), examples, best, flags)

    def save_checkpoints(self, folder: Path | str, /) -> None:
        """Write the state to `last.pt` in `folder`, and the network to `best.pt` if this epoch is the best so far."""
        if self.best is not None and self.best.epoch == self.epoch:
            state = {"spec": self.spec.to_json(), "epoch": self.epoch, "model": self.measured.state_dict()}
            write_checkpoint(join(folder, BEST), state)
        self.save(join(folder, LAST))

    def save(self, path: Path | str, /) -> None:
        """Write the state between two batches to `path`, atomically; its `model` is the network that is measured."""
        write_checkpoint(
            path,
            {
                "spec": self.spec.to_json(),
                "epoch": self.epoch,
                "within": [self._batch, self._sums],
                "reason": self.reason,
                "history": self.history,
                "model": self.measured.state_dict(),
                "unaveraged": None if self._average is None else self.model.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "best": None if self.best is None else [self.best.epoch, self.best.measures.to_dict()],
                "val_measures": None if self._val_measures is None else self._val_measures.to_dict(),
                "measured_epoch": self._measured_epoch,
                "micro_batch": self._micro.size,
                "collapsed": self._collapse.collapsed,
                "seconds": self._seconds,
                "started_at": self._started_at,
            },
        )

    def load(self, path: Path | str, /) -> None:
        """Resume from a state that `save` wrote for this spec.

        Raises:
            CheckpointError: The file is damaged or of another spec; the trainer is unchanged.
        """
        state = read_checkpoint(path, device=self.device)
        stored = with_former_values(json.loads(state["spec"]), TrialSpec)
        check_spec(path, stored, json.loads(self.spec.to_json()))
        self.measured.load_state_dict(state["model"])
        if self._average is not None:
            self.model.load_state_dict(state["unaveraged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.reason, self.history = state["epoch"], state["reason"], state["history"]
        self._batch, self._sums = state.get("within", (0, {}))
        carried, best = state["val_measures"], state["best"]
        self._val_measures = None if carried is None else Measures.from_dict(carried)
        self.best = None if best is None else Best(best[0], Measures.from_dict(best[1]))
        self._micro.size, self._collapse.collapsed = state.get("micro_batch"), state.get("collapsed", 0)
        self._measured_epoch, self._started_at = state["measured_epoch"], state["started_at"]
        self._seconds = {name: spent + state["seconds"].get(name, 0.0) for name, spent in self._seconds.items()}

    def _run_epoch(self, started: float, between: Callable[[], None] | None) -> dict[str, Any]:
        """Train and measure; return the losses and the accuracy of the epoch's row."""
        try:
            parts = self._train_epoch(between)
        finally:
            self._seconds["training"] += time.perf_counter() - started
        self.epoch += 1
        accuracy, loss = clean_measures(self.measured, self._val_images, self._val_labels)
        if not (math.isfinite(loss) and math.isfinite(parts["loss"])):
            self.reason = DIVERGED
        else:
            self.reason = self._collapse.reason({self.measured, self.model}, epoch=self.epoch, loss=loss)
        if self.reason is None and (self.epoch % self.spec.evaluation.every == 0 or self.done):
            self._val_measures = self._measure(self._val_images, self._val_labels, split="val")
            self._measured_epoch = self.epoch
            self.best = Best(self.epoch, self._val_measures).better_of(self.best)
            parts |= self._train_curve()
        losses = {name: value if math.isfinite(value) else None for name, value in (parts | {"val_loss": loss}).items()}
        return losses | {"val_clean_accuracy": accuracy}

    def _train_curve(self) -> dict[str, float]:
        if self.done:  # the whole measurement after the last epoch includes these images
            return {}
        started = time.perf_counter()
        images, labels = (part[:TRAIN_IMAGES] for part in self._measured_part(self._train))
        curve = train_accuracies(self.measured, images, labels, spec=self.spec)
        self._seconds["attack"] += time.perf_counter() - started
        return curve

    def _train_epoch(self, between: Callable[[], None] | None) -> dict[str, float]:
        """Train on the epoch's remaining batches; return the mean objective as `loss` and the mean of each part."""
        self.model.train()
        sums = self._sums
        for x, y in self._batches.epoch(self.epoch, begin=self._batch):
            terms = self._train_batch(x, y, self._batch)
            for name, values in {"loss": terms.total, **{f"part.{k}": v for k, v in terms.parts.items()}}.items():
                # Summed on the device, as reading each batch's loss would stall a GPU at every step.
                sums[name] = sums.get(name, 0) + values.detach().sum(dtype=torch.float64)
            self._batch += 1
            if between is not None and self._batch < len(self._batches):
                between()
        means = torch.stack(list(sums.values())) / self._batches.num_images
        self._batch, self._sums = 0, {}
        return dict(zip(sums, means.tolist(), strict=True))

    def _train_batch(self, x: Tensor, y: Tensor, batch: int) -> LossTerms:
        training, place = self.spec.training, (self.epoch, batch)
        strength = self._rise(batch, training.ramp)
        given = {"progress": self._progress(batch)} | ({} if self._helper is None else {"helper": self._helper})
        compute = partial(
            loss_terms, self.method, self._trained, spec=self.spec, place=place, strength=strength, **given
        )
        terms = self._micro.run(compute, x, y, clear=self.optimizer.zero_grad)
        if training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), training.clip_norm)
        self.optimizer.step(self._learning_rate(batch))
        if self._average is not None:
            self._average.update(self.model, step=self.epoch * len(self._batches) + batch)
        return terms

    def _made(self, what: str, data: ImageData, makers: Makers) -> Any:
        asked = self.spec.training.extra if what == "extra" else getattr(self.method, what, None)
        if asked in (None, False):
            return None
        if what not in makers:
            use = "use `trainables.training.fit.trainer_for`"
            raise ValueError(f"`{what}` is {asked!r}, but this trainer cannot make it: {use}")
        return makers[what](*(() if asked is True else (asked,)), spec=self.spec, data=data, device=self.device)

    def _progress(self, batch: int) -> float:
        return (self.epoch + batch / len(self._batches)) / self.spec.training.epochs

    def _learning_rate(self, batch: int) -> float:
        training, progress = self.spec.training, self._progress(batch)
        rate = learning_rate(progress, schedule=training.schedule, initial=training.lr, epochs=training.epochs)
        return rate * self._rise(batch, training.warmup)

    def _rise(self, batch: int, share: float) -> float:
        steps = len(self._batches)
        return rise(self.epoch * steps + batch, steps=self.spec.training.epochs * steps, share=share)

    def _measured_part(self, split: Split) -> tuple[Tensor, Tensor]:
        first = min(self.spec.evaluation.examples, len(self._val))
        return measured_part(split, first, scale=self._scale, layout=self._layout, device=self.device)

    def _measure(self, images: Tensor, labels: Tensor, /, *, split: str) -> Measures:
        # the expensive checks run once, on the network that the result row describes
        checks = self.spec.evaluation.checks if split == "val" and self.done else "cheap"
        measures = measure(self.measured, images, labels, spec=self.spec, split=split, checks=checks, last=self.done)
        self._seconds["attack"] += measures.seconds_attack
        self._seconds["lipschitz"] += measures.seconds_lipschitz
        self._seconds["certify"] += measures.seconds_certify
        return measures
