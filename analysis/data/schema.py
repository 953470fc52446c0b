"""The columns of the result files, declared once: type, unit, meaning, nullability, determinism.

Plain dataclasses, so listing columns needs no pyarrow; `analysis.data.results` reads and writes the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from analysis.data.columns import Column, ColumnType, Schema
from analysis.data.columns import ResultsError as ResultsError


def _string(name: str, doc: str, *, nullable: bool = False, choices: tuple[str, ...] = ()) -> Column:
    return Column(name=name, type="string", doc=doc, nullable=nullable, choices=choices)


def _setting(name: str, doc: str, *, type: ColumnType = "int32", nullable: bool = False) -> Column:
    return Column(name=name, type=type, doc=doc, nullable=nullable, like_for_like=True)


def _metric(name: str, doc: str, *, unit: str = "", nullable: bool = True) -> Column:
    return Column(name=name, type="float64", doc=doc, unit=unit, nullable=nullable)


def _circumstance(name: str, doc: str, *, type: ColumnType = "string", unit: str = "") -> Column:
    return Column(name=name, type=type, doc=doc, unit=unit, nullable=True, deterministic=False)


def _added(column: Column) -> Column:
    return replace(column, added=True)


def _measures(split: str, *, of: str = "") -> tuple[Column, ...]:
    """Return a split's measures; with `of` as a prefix, those of the checkpoint chosen on validation."""
    if of:
        return tuple(
            replace(each, name=f"{of}_{each.name}", doc=f"{each.name} of the checkpoint of best_epoch")
            for each in _measures(split)
        )
    lipschitz = "logits (l1; l2 for l2) per pixel unit (linf; l2 for l2)"
    bound = f"of the per-example empirical local Lipschitz lower bounds at eval_epsilon on {split}"
    return (
        _metric(f"{split}_clean_accuracy", f"fraction of {split} examples classified correctly"),
        _metric(f"{split}_robust_accuracy", f"fraction of {split} examples still correct under the attack"),
        _metric(f"{split}_loss", f"mean cross-entropy on clean {split} examples", unit="nats"),
        *(
            _metric(f"{split}_lipschitz_{statistic}", f"{statistic} {bound}", unit=lipschitz)
            for statistic in ("mean", "median", "p95", "max")
        ),
        _metric(
            f"{split}_lipschitz_scale_free_mean",
            f"mean {bound}, of centred logits over the model's mean logit margin",
            unit="mean margins per pixel unit",
        ),
    )


RESULT = Schema(
    name="result",
    version=3,
    folder="results",
    dynamic="param.",
    dynamic_doc="numeric hyperparameter; null where the method has none of this name",
    order=("number", "study", "trial_id"),
    columns=(
        _string("study", "name of the study"),
        _string("trial_id", "derived from the trial number; names the trial's files"),
        Column(name="number", type="int32", doc="the searcher's trial number, from 0"),
        _string("status", "how the trial ended", choices=("completed", "stopped_early", "failed")),
        _string("reason", "why the trial did not complete", nullable=True),
        Column(name="flags", type="list<string>", doc="doubts about the measurement; empty for none"),
        _string("proposal", "how the settings were chosen", choices=("sampler", "random", "start_point", "grid")),
        Column(
            name="replicate_of",
            type="int32",
            nullable=True,
            doc="number of the study's first trial with the same settings, of which this is another seed",
        ),
        _added(_string("config_hash", "digest of all settings but the seed", nullable=True)),
        _string("constraints", "the study's constraints as declared, a JSON list; null without", nullable=True),
        _string("method", "training method"),
        _string("options", "the method's non-numeric hyperparameters, JSON; null without them", nullable=True),
        _setting("dataset", "data set", type="string"),
        _setting("split_hash", "digest of the examples in each split", type="string", nullable=True),
        _string("model", "network"),
        Column(name="seed", type="int64", doc="seed from which every draw of the trial derives"),
        _setting("norm", "norm of the threat model", type="string"),
        _metric("train_epsilon", "radius of training attacks; null where the method has none", unit="pixel range"),
        Column(
            name="eval_epsilon", type="float64", doc="radius of the measurement", unit="pixel range", like_for_like=True
        ),
        _setting("attack", "attack of the measurement", type="string"),
        _setting("steps", "attack steps"),
        _setting("restarts", "attack restarts"),
        _setting("examples", "examples measured per split, at most"),
        _setting("lipschitz_steps", "ascent steps of the Lipschitz estimate"),
        _setting("lipschitz_restarts", "restarts of the Lipschitz estimate"),
        _setting("lipschitz_examples", "examples of the Lipschitz estimate per split, at most"),
        _added(_setting("certify", "effort of the certified accuracy; null without", type="string", nullable=True)),
        _string("craft_mode", "model's mode while training attacks are crafted; null without them", nullable=True),
        _string("checkpoint_kind", "weights of the train_ and val_ columns", nullable=True, choices=("last", "best")),
        *_measures("train"),
        *_measures("val"),
        _added(
            _metric(
                "val_certified_accuracy",
                "fraction of val examples proved correct at every point of the ball; null where none is",
            )
        ),
        _metric("clean_gap", "train minus val clean accuracy"),
        _metric("robust_gap", "train minus val robust accuracy"),
        Column(
            name="best_epoch",
            type="int32",
            nullable=True,
            doc="epochs trained at the measured epoch of highest val robust accuracy, the earliest on ties",
        ),
        *_measures("val", of="best"),
        Column(name="epochs", type="int32", doc="epochs run"),
        Column(
            name="micro_batch",
            type="int32",
            nullable=True,
            doc="images per training pass, halved after running out of memory, as are batch norm's batches; else null",
        ),
        _circumstance("started_at", "start of the trial, UTC, ISO 8601"),
        _circumstance("attempts", "attempts, including those ended by a lost worker or driver", type="int32"),
        _circumstance("seconds", "wall time of the whole trial", type="float64", unit="s"),
        _circumstance("seconds_training", "wall time of training", type="float64", unit="s"),
        _circumstance("seconds_attack", "wall time of the measuring attacks", type="float64", unit="s"),
        _circumstance("seconds_lipschitz", "wall time of the Lipschitz estimates", type="float64", unit="s"),
        _added(_circumstance("seconds_certify", "wall time of the certificates", type="float64", unit="s")),
        _circumstance("examples_per_second", "training throughput", type="float64", unit="1/s"),
        _circumstance("peak_memory_mb", "peak memory of the worker or device", type="float64", unit="MB"),
        Column(name="threads", type="int32", doc="CPU threads of torch"),
        _circumstance("device", "device the trial ran on"),
        _circumstance("host", "machine the trial ran on"),
        _circumstance("versions", "versions of Python and the libraries, JSON"),
        _circumstance("code_revision", "revision of this project's code"),
        _circumstance("mlflow_run_id", "the trial's MLflow run"),
        _circumstance("checkpoint_path", "path of the trial's checkpoint"),
    ),
)

EPOCH = Schema(
    name="epoch",
    version=2,
    folder="epochs",
    dynamic="part.",
    dynamic_doc="mean of one part of the loss over the epoch",
    order=("number", "study", "trial_id", "epoch"),
    columns=(
        _string("study", "name of the study"),
        _string("trial_id", "the trial"),
        Column(name="number", type="int32", doc="the searcher's trial number, from 0"),
        Column(name="epoch", type="int32", doc="epochs finished, from 1"),
        _metric("lr", "learning rate of the epoch's first step"),
        _metric("loss", "mean training objective"),
        *(
            _added(_metric(f"train_{kind}_accuracy", f"{kind} accuracy on the first 100 train examples; null if stale"))
            for kind in ("clean", "robust")
        ),
        _metric("val_clean_accuracy", "fraction of val examples classified correctly"),
        _metric("val_loss", "mean cross-entropy on clean val examples", unit="nats"),
        _metric("val_robust_accuracy", "fraction of val examples still correct under the attack"),
        _metric("val_lipschitz_mean", "mean empirical local Lipschitz lower bound"),
        _metric("val_lipschitz_scale_free_mean", "mean scale-free empirical local Lipschitz lower bound"),
        _added(_metric("val_certified_accuracy", "fraction of val examples proved correct; null where none is")),
        Column(name="best_epoch", type="int32", nullable=True, doc="measured epoch of highest robust accuracy so far"),
        _metric("best_val_clean_accuracy", "val_clean_accuracy of the checkpoint of best_epoch"),
        _metric("best_val_robust_accuracy", "val_robust_accuracy of the checkpoint of best_epoch, against the last's"),
        Column(name="stale", type="bool", doc="the robust and Lipschitz values are an earlier epoch's"),
        _circumstance("seconds", "wall time of the epoch", type="float64", unit="s"),
    ),
)

EXAMPLE = Schema(
    name="example",
    version=1,
    folder="examples",
    columns=(
        _string("study", "name of the study"),
        _string("trial_id", "the trial"),
        _string("checkpoint", "which weights were measured", choices=("last", "best")),
        _string("split", "split the example belongs to", choices=("train", "val", "test")),
        _string("attack", "attack of the measurement"),
        _metric("epsilon", "radius of the measurement", unit="pixel range", nullable=False),
        Column(name="index", type="int32", doc="the example's position in the source's file order"),
        Column(name="clean_correct", type="bool", doc="classified correctly"),
        Column(name="robust_correct", type="bool", doc="still classified correctly under the attack"),
        _metric("lipschitz", "empirical local Lipschitz lower bound; null beyond lipschitz_examples"),
        _metric("lipschitz_scale_free", "scale-free form of it; null beyond lipschitz_examples"),
    ),
)

SEPARATION = Schema(
    name="separation",
    version=1,
    folder="separation",
    columns=(
        _string("dataset", "data set"),
        _setting("norm", "norm of the distances", type="string"),
        _setting("scale", "pixel level that corresponds to 1.0"),
        _string("pairs", "splits that were compared", choices=("train-train", "test-train", "test-test")),
        _string("split", "split the example belongs to", choices=("train", "test")),
        Column(name="index", type="int32", doc="the example's position in the source's file order"),
        Column(name="label", type="int32", doc="the example's label"),
        _metric("distance", "to the nearest image of another label; null without one", unit="pixel range"),
        Column(name="levels", type="int64", doc="the same distance exactly, in levels (squared for l2)", nullable=True),
        Column(name="nearest_index", type="int32", doc="position of that image, the first on ties", nullable=True),
        Column(name="nearest_label", type="int32", doc="label of that image", nullable=True),
        Column(name="contradicting", type="bool", doc="an identical image has another label"),
        _metric("own_distance", "of a test image to the nearest training image of its label", unit="pixel range"),
        _metric("certified_radius", "of the separated-data classifier; null except for test-train", unit="pixel range"),
    ),
)

EVALUATION = Schema(
    name="evaluation",
    version=1,
    folder="evaluations",
    order=("number", "study", "trial_id", "checkpoint", "attack", "epsilon", "examples"),
    columns=(
        _string("study", "name of the study"),
        _string("trial_id", "the trial"),
        Column(name="number", type="int32", doc="the searcher's trial number, from 0"),
        _string("method", "training method"),
        Column(name="seed", type="int64", doc="seed of the trial; the measurement's draws derive from it"),
        _string("evaluation", "names the measurement's files"),
        _string("chosen_by", "why this trial was measured", choices=("front", "trial", "confirm")),
        _string("checkpoint", "which weights were measured", choices=("last", "best")),
        _string("split", "split of the examples", choices=("val", "test")),
        _setting("dataset", "data set", type="string"),
        _setting("split_hash", "digest of the examples in each split", type="string"),
        _string("model", "network"),
        _setting("norm", "norm of the threat model", type="string"),
        _metric("epsilon", "radius of the measurement", unit="pixel range", nullable=False),
        _setting("attack", "attack of the measurement", type="string"),
        _setting("steps", "attack steps; of AutoAttack those of the PGD before it"),
        _setting("restarts", "attack restarts; of AutoAttack those of the PGD before it"),
        _setting("examples", "examples measured, the first of the split"),
        _string("checks", "how thoroughly the measurement was checked", choices=("cheap", "full")),
        Column(name="lipschitz_steps", type="int32", nullable=True, doc="ascent steps of the Lipschitz estimate"),
        Column(name="lipschitz_restarts", type="int32", nullable=True, doc="restarts of the Lipschitz estimate"),
        Column(name="lipschitz_examples", type="int32", nullable=True, doc="examples of the Lipschitz estimate"),
        *(replace(each, name=each.name.removeprefix("test_")) for each in _measures("test")),
        Column(
            name="certified_accuracy",
            type="float64",
            doc="fraction of the examples proved correct within a time limit; null where none is or none was tried",
            nullable=True,
            deterministic=False,
            added=True,
        ),
        Column(name="flags", type="list<string>", doc="doubts about the measurement; empty for none"),
        Column(name="threads", type="int32", doc="CPU threads of torch"),
        _circumstance("occasion", "start of the command that used the split, UTC, ISO 8601"),
        _circumstance("seconds", "wall time of the measurement", type="float64", unit="s"),
        _circumstance("seconds_attack", "wall time of the attack and its checks", type="float64", unit="s"),
        _circumstance("seconds_lipschitz", "wall time of the Lipschitz estimate", type="float64", unit="s"),
        _circumstance("device", "device it ran on"),
        _circumstance("host", "machine it ran on"),
        _circumstance("versions", "versions of Python and the libraries, JSON"),
        _circumstance("code_revision", "revision of this project's code"),
        _circumstance("checkpoint_path", "the file that was measured"),
    ),
)

DISTANCE = Schema(
    name="distance",
    version=1,
    folder="distances",
    columns=(
        *(EVALUATION.by_name[name] for name in ("study", "trial_id", "number", "method", "checkpoint", "split_hash")),
        _string("split", "split the example belongs to", choices=("val",)),
        *(EVALUATION.by_name[name] for name in ("norm", "epsilon", "attack", "steps", "restarts")),
        _metric("cap", "the largest radius searched", unit="pixel range", nullable=False),
        Column(name="index", type="int32", doc="the example's position in the source's file order"),
        _metric(
            "distance",
            "to the nearest misclassified point found, an upper bound; 0 where the image is; null if none within cap",
            unit="pixel range",
        ),
        _added(Column(name="flags", type="list<string>", doc="doubts about the trial's measurement", nullable=True)),
    ),
)

SCHEMAS = {schema.name: schema for schema in (RESULT, EPOCH, EXAMPLE, SEPARATION, EVALUATION, DISTANCE)}


def differing_columns(
    left: Mapping[str, Any],
    right: Mapping[str, Any],
    /,
    *,
    schema: Schema = RESULT,
    columns: Iterable[str] | None = None,
) -> dict[str, tuple[Any, Any]]:
    """Return the columns in which two rows differ, each with both values; empty if the rows agree.

    Values are compared exactly; NaN equals NaN, and an absent column counts as null.

    Args:
        left: One row.
        right: The other.
        schema: The rows' schema.
        columns: Names to compare; by default the deterministic ones and every dynamic one of either row.
    """
    if columns is None:
        dynamic = sorted(name for name in {*left, *right} if name not in schema.by_name and schema.find(name))
        columns = (*schema.deterministic_columns(), *dynamic)
    pairs = {name: (left.get(name), right.get(name)) for name in columns}
    return {name: pair for name, pair in pairs.items() if not _same(*pair)}


def _same(left: Any, right: Any) -> bool:
    if isinstance(left, (list, tuple)) and isinstance(right, (list, tuple)):
        return list(left) == list(right)
    return bool(left == right) or (left is not None and right is not None and left != left and right != right)
