"""The paper's proof of concept: a network trained on train and test together is accurate and robust on both.

That such a network exists is all it shows. It is the one place that trains on test images: its data, its files and its
table are its own, and no other command reads them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.data.proof_results import PROOF, TABLE, TRAIN_AND_TEST
from study.config.loading import load_config
from study.config.schema import StudyConfig
from study.console import StageProgress, duration, notes, results
from study.errors import UsageError, usage_errors
from study.reproduce.joint_data import JointData, joined
from study.reproduce.proof_settings import proof_parts
from study.reproduce.request import TableFiles, TableRequest
from trainables.data import DataError, load_raw
from trainables.data.roots import expanded
from trainables.settings import with_former_values
from trainables.spec import TrialSpec

if TYPE_CHECKING:
    from trainables.training.loop import Trainer


@dataclass(frozen=True, kw_only=True)
class _Network:
    """A network of the proof: the images it is trained on, its spec, and the file of its rows."""

    joint: JointData
    spec: TrialSpec
    rows: Path

    @property
    def name(self) -> str:
        return f"{self.spec.method} on {self.joint.data.name}"

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints, named after the images: training resumes on no others."""
        return self.rows.with_suffix("") / self.joint.data.split_hash

    def measured(self) -> list[dict[str, Any]] | None:
        """Return the rows of an earlier command; None without one.

        Raises:
            UsageError: They are damaged, or of other settings or images.
        """
        from analysis.data.files import SchemaError, read_file
        from analysis.data.schema import ResultsError

        if not self.rows.exists():
            return None
        try:
            rows: list[dict[str, Any]] = read_file(self.rows, PROOF).to_pylist()
        except SchemaError as error:
            raise UsageError(str(error)) from error
        except ResultsError as error:
            raise UsageError(f"{self.rows} is damaged: move it away to measure {self.name} again") from error
        now = json.loads(self.spec.to_json())
        if any(with_former_values(json.loads(row["spec"]), TrialSpec) != now for row in rows):
            raise UsageError(f"{self.rows} was measured with other settings: leave out --set, or give another --out")
        if any(row["split_hash"] != self.joint.data.split_hash for row in rows):
            raise UsageError(
                f"{self.rows} was measured on other images of {self.joint.data.name}: name the folder of the same "
                "files by --data-root, or give another --out"
            )
        return rows


def run(request: TableRequest, /) -> TableFiles:
    """Train and measure what was not measured yet, and write the table and the figure of the staircase.

    Raises:
        UsageError: None of the data sets is available, invalid assignments, or files of other settings.
        SystemExit: 1 if no network could be trained.
    """
    from analysis.plots.networks.staircase import staircase_sheet

    figures = request.home / "figures"
    if not (figures / "staircase.csv").exists():  # which is written last
        staircase_sheet().write(figures)
    notes().print(f"trained on train and test together (split {TRAIN_AND_TEST}): no estimate of generalisation")
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for network in _networks(request, missing):
        done = network.measured()
        if done is None:
            trainer = _trained(network)
            if trainer.reason is not None:
                missing.append(f"{network.name}: training ended after epoch {trainer.epoch}: {trainer.reason}")
                continue
            done = _measure(network, trainer)
        else:
            notes().print(f"{network.name}: trained and measured")
        rows += done
    if not rows:
        if any(request.home.glob(f"{PROOF.folder}/*/")):  # trained, and no network is sound
            notes().print("\n".join(missing))
            raise SystemExit(1)
        raise UsageError(*missing)
    return [*_write_table(request, rows, missing), *sorted(figures.iterdir())], missing


def dry_run(request: TableRequest, /) -> None:
    """Print each network and an estimate of its time.

    Raises:
        UsageError: Invalid assignments, or files of other settings.
    """
    from study.lifecycle.estimate import probed

    console = results()
    console.print(f"{request.title}, in {request.home}")
    missing: list[str] = []
    for network in _networks(request, missing):
        spec, parts = network.spec, network.joint.parts
        console.print(
            f"{network.name}: {spec.model.name}, {len(parts['train'])} train and {len(parts['test'])} test images, "
            f"{spec.training.epochs} epochs; {spec.evaluation.norm} radius {spec.evaluation.epsilon:g}"
        )
        if network.measured() is not None:
            console.print("  trained and measured")
            continue
        notes().print(f"measuring {spec.method} ...")
        both = replace(network.joint.data, val=network.joint.data.train)
        console.print(f"  time: about {duration(probed(spec, both).seconds)} on this machine, without a cluster")
    for line in missing:
        console.print(f"no estimate: {line}")
    console.print("nothing was started")


def _networks(request: TableRequest, missing: list[str]) -> Iterator[_Network]:
    """Yield the networks of the available data sets; a line on each other one is added to `missing`."""
    if request.address is not None:
        raise UsageError(f"{TABLE} trains in this process: leave --address out")
    for part in proof_parts(request.scale):
        config = load_config(part.tree, assignments=request.assignments, data_root=request.data_root)
        name, size = config.dataset.name, config.dataset.train_size
        try:
            raw, name = load_raw(name, root=config.dataset.root)
            joint = joined(raw, name=name, train=size, test=part.test)
        except DataError as error:
            missing.append(f"{name}: {error}")
            continue
        for method in config.search.methods:
            rows = request.home / PROOF.folder / f"{expanded(name).name}-{method}.parquet"
            yield _Network(joint=joint, spec=_spec(config, method, joint.data.name), rows=rows)


def _spec(config: StudyConfig, method: str, data: str) -> TrialSpec:
    """Return a method's spec, whose data set has a name that no config can give."""
    proposal = {"method": method}
    for key, value in config.space().fixed.items():
        owner, _, name = key.rpartition(".")
        if owner in ("", method):
            proposal[name] = value
    spec = config.trial_spec(proposal, number=0)
    return replace(spec, dataset=replace(spec.dataset, name=data, root=None))


def _trained(network: _Network) -> Trainer:
    """Return the trainer after its last epoch, resumed where an earlier command stopped."""
    from trainables.checkpoints.format import CheckpointError
    from trainables.training.fit import trainer_for
    from trainables.training.loop import LAST

    last, console = network.checkpoints / LAST, notes()
    with usage_errors(CheckpointError, ValueError):
        trainer = trainer_for(network.spec, data=network.joint.data)
        if last.exists():
            trainer.load(last)
            console.print(f"{network.name}: resumed after epoch {trainer.epoch}")
    network.checkpoints.mkdir(parents=True, exist_ok=True)
    while not trainer.done:
        row = trainer.run_epoch()
        trainer.save(last)  # which a later command resumes from
        if trainer.reason is None:
            left = row["seconds"] * (network.spec.training.epochs - row["epoch"])
            console.print(
                f"{network.name}: epoch {row['epoch']}/{network.spec.training.epochs} · loss {row['loss']:.4f} · "
                f"about {duration(left)} of training left"
            )
    return trainer


def _measure(network: _Network, trainer: Trainer) -> list[dict[str, Any]]:
    """Measure each part of the images, write the rows and return them."""
    from analysis.data.results import write_rows
    from trainables.attacks.threat import Ascent, ThreatModel
    from trainables.evaluation.evaluate import evaluate
    from trainables.evaluation.trial import measured_part
    from trainables.models.inputs import memory_format
    from trainables.runtime import code_revision, computing, machine_columns
    from trainables.seeding import derive

    spec, joint = network.spec, network.joint
    evaluation, model = spec.evaluation, trainer.measured
    ascent = Ascent(ThreatModel(evaluation.norm, evaluation.epsilon), evaluation.steps, evaluation.restarts)
    rows = []
    for part, split in joint.parts.items():
        images, labels = measured_part(
            split, evaluation.examples, scale=joint.data.scale, layout=memory_format(model), device=trainer.device
        )
        with StageProgress() as progress, computing(threads=spec.training.threads):
            measures = evaluate(
                model, images, labels, attack=evaluation.attack, ascent=ascent, lipschitz=evaluation.lipschitz,
                seed=derive(spec.seed, "evaluate", part), margin_check=evaluation.margin_check, report=progress.report,
            )  # fmt: skip
        seconds = measures.seconds_attack + measures.seconds_lipschitz
        row = {
            "split": TRAIN_AND_TEST,
            "part": part,
            **{f"{name}_images": len(each) for name, each in joint.parts.items()},
            "spec": spec.to_json(),
            "dataset": joint.data.name,
            "split_hash": joint.data.split_hash,
            "model": spec.model.name,
            "method": spec.method,
            "seed": spec.seed,
            **{name: getattr(evaluation, name) for name in ("norm", "epsilon", "attack", "steps", "restarts")},
            "examples": len(labels),
            **measures.summary(),
            "lipschitz_examples": len(measures.lipschitz) or None,
            "flags": list(measures.flags),
            "seconds": seconds,
            "device": trainer.device.type,
            **machine_columns(),
            "code_revision": code_revision(),
        }
        rows.append({name: row[name] for name in PROOF.by_name})
    write_rows(network.rows, rows, PROOF)
    return rows


def _write_table(request: TableRequest, rows: Sequence[dict[str, Any]], missing: Sequence[str]) -> list[Path]:
    from analysis.data.results import write_columns
    from analysis.tables.text_table import TextTable, write_forms
    from analysis.wording import LOWER_BOUND, attack_name

    headings = ("data set", "network", "method", "trained on", "part", "images", "clean", "robust", "ε")
    estimated = max(row["lipschitz_examples"] or 0 for row in rows)
    shown = TextTable(
        title=request.title,
        headings=(*headings, "Lipschitz mean", "scale-free", "remark"),
        formats=("", "", "", "", "", ",d", ".4f", ".4f", "g", ".4g", ".4g", ""),
        rows=tuple(
            (
                row["dataset"].removesuffix(f" {TRAIN_AND_TEST}"), row["model"], row["method"], row["split"],
                f"{row['part']} images", row["examples"], row["clean_accuracy"], row["robust_accuracy"],
                row["epsilon"], row["lipschitz_mean"], row["lipschitz_scale_free_mean"],
                f"flagged: {', '.join(row['flags'])}" if row["flags"] else None,
            )
            for row in rows
        ),
        notes=(
            f"{TRAIN_AND_TEST}: every network was trained on the test images too. No accuracy here says how a network "
            "does on images that it has not seen; high values on both parts say that there is a network which is right "
            "on them and which this attack does not fool, no more",
            f"robust: under {', '.join(sorted({attack_name(row['attack'], row['steps']) for row in rows}))}, an upper "
            f"bound; Lipschitz: {LOWER_BOUND}, within ε, of ≤ {estimated} images of each part",
            request.remark,
            *(f"not in this table, {line}" for line in missing),
        ),
    )  # fmt: skip
    columns = {name: [row[name] for row in rows] for name in PROOF.by_name}
    as_text = columns | {"flags": [" ".join(row["flags"]) for row in rows]}
    files = write_forms(shown, as_text, request.home, name=TABLE)
    # with its schema, by which every other command knows and refuses it
    write_columns(request.home / f"{TABLE}.parquet", columns, PROOF, replace=True)
    return files
