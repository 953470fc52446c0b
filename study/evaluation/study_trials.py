"""The command `evaluate` on a study: trials that validation chose, measured on test and counted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.heldout.measurements import uses_lines, uses_of_test
from study.config.schema import StudyConfig
from study.console import StageProgress, notes, results
from study.directory.data_notes import data_notes
from study.directory.layout import open_config
from study.directory.rows import evaluation_rows, read_rows, require_same_images
from study.errors import UsageError, usage_errors
from study.evaluation.attack_choice import suitable
from study.evaluation.bounds import bounds_table, certificates, certified_trials
from study.evaluation.checkpoint_input import check_radius
from study.evaluation.selection import chosen_members, named_trials
from study.evaluation.trial_weights import Weights, weights_of
from study.search.trial_specs import spec_of

if TYPE_CHECKING:
    from study.evaluation.jobs import MeasurementJob
    from trainables.certified.certificate import Certificate
    from trainables.data.base import ImageData
    from trainables.spec import Norm

SINGLE_STEP = "fgsm"
"""Takes one step from the image, also where more steps and restarts are asked for."""


@dataclass(frozen=True, kw_only=True)
class EvaluationRequest:
    """What `evaluate STUDY_DIR` is asked for; None leaves a value to the study's own `evaluation`.

    Attributes:
        front: The members of the front that validation chose.
        trials: Ids named by the user; with `front`, they have to be members of it.
        most: Most members of the front.
        attacks: Attacks beside the study's own.
        checkpoint: Which weights.
        norm: Of the threat model; another one than the study's needs a radius too.
        epsilon: Radius.
        steps: Attack steps.
        restarts: Attack restarts.
        limit: The first so many test images; as many as on validation when None.
        examples: Where each image's outcomes are written, of one trial named by the user; None for nowhere.
        address: A Ray cluster; None measures in this process.
        data_root: Where the data set's files lie here.
    """

    front: bool
    trials: tuple[str, ...]
    most: int
    attacks: tuple[str, ...]
    checkpoint: Weights = "last"
    norm: Norm | None = None
    epsilon: float | None = None
    steps: int | None = None
    restarts: int | None = None
    limit: int | None = None
    examples: Path | None = None
    address: str | None = None
    data_root: Path | None = None


def evaluate_study(study_dir: Path, request: EvaluationRequest, /, *, as_json: bool) -> None:
    """Measure chosen trials on test, and print what is known of them there and how often test was used.

    What was measured before is not measured again. Trials named by the user get certified bounds too, which no row
    holds: they are computed each time, and printed. Exit code 1 when a measurement failed.

    Raises:
        UsageError: No such study or trial, no front, missing weights, or a data set that is not there.
    """
    from study.evaluation.jobs import check_weights, only_evaluation, run_jobs

    if request.examples is not None and len(request.trials) != 1:
        raise UsageError(f"--examples has no use with {study_dir} --front or several trials: name one with --trial ID")
    config = open_config(study_dir)
    table = read_rows([study_dir])
    rows, chosen_by = _chosen(study_dir, table, request)
    data = data_with_test(config, rows, data_root=request.data_root)
    _check_threat(config, request, data)
    options: dict[str, Any] = {"size": len(data.test or ()), "chosen_by": chosen_by}
    own = config.evaluation.attack
    others = suitable(request.attacks, image_shape=data.image_shape, num_classes=data.num_classes)
    attacks = (own, *(attack for attack in others if attack != own))
    jobs = [job_of(study_dir, config, row, request, attack=attack, **options) for row in rows for attack in attacks]
    todo = [job for job in jobs if not job.done]
    check_weights(todo)
    spec = jobs[0].spec
    notes().print(
        f"{len(rows)} trial{'s' * (len(rows) != 1)} on the first {spec.examples} of {len(data.test or ())} test "
        f"images: {len(jobs)} measurement{'s' * (len(jobs) != 1)}, {len(jobs) - len(todo)} already there"
    )
    with only_evaluation(study_dir):
        problems = run_jobs(jobs, config=config, data=data, address=request.address)
    if todo:
        from study.tracking.post_run import track_tested

        track_tested(config, study_dir, rows, evaluation_rows(study_dir))
    proofs = certificates(jobs, data) if request.trials else {}
    if request.examples is not None and not problems:
        _write_examples(request.examples, jobs, data, proofs.get(rows[0]["trial_id"]))
    _print(study_dir, rows, certified_trials(jobs, proofs), problems, as_json=as_json)
    if problems:
        raise SystemExit(1)


def data_with_test(
    config: StudyConfig, rows: Sequence[dict[str, Any]], /, *, data_root: Path | None = None
) -> ImageData:
    """Return the study's data set with its test split, known to be the one that the trials were run on.

    Raises:
        UsageError: It is not there, has no test split, or holds other images than then.
    """
    from trainables.data import DataError, load_dataset

    dataset = config.dataset if data_root is None else replace(config.dataset, root=str(data_root))
    with usage_errors(DataError):
        data = load_dataset(dataset)
    if data.test is None or not len(data.test):
        raise UsageError(f"data set {data.name} has no test split to measure on")
    require_same_images(rows, data.split_hash, name=data.name, remedy="--data-root")
    for line in data_notes(data):
        notes().print(line)
    return data


def _check_threat(config: StudyConfig, request: EvaluationRequest, data: ImageData) -> None:
    own = config.evaluation
    norm = request.norm or own.norm
    if request.epsilon is not None:
        check_radius(request.epsilon, norm=norm, data=data)
    elif norm != own.norm:
        raise UsageError(
            f"--norm {norm} needs --epsilon: the study's own radius {own.epsilon:g} is meant in {own.norm}"
        )


def _chosen(study_dir: Path, table: Any, request: EvaluationRequest) -> tuple[list[dict[str, Any]], str]:
    if not request.front and not request.trials:
        raise UsageError("evaluate STUDY_DIR needs --front, or --trial ID (which may be given more than once)")
    named = named_trials(study_dir, table, request.trials)
    if not request.front:
        return named, "trial"
    most = max(request.most, table.num_rows) if named else request.most
    members = chosen_members(study_dir, table, most=most)
    ids = [row["trial_id"] for row in members]
    for row in named:
        if row["trial_id"] not in ids:
            raise UsageError(
                f"trial {row['trial_id']} is not on the front (its members: {', '.join(ids)}): leave --front out to "
                "measure it nonetheless"
            )
    return named or members, "front"


def job_of(
    study_dir: Path,
    config: StudyConfig,
    row: dict[str, Any],
    request: EvaluationRequest,
    /,
    *,
    attack: str,
    size: int,
    chosen_by: str,
    thorough: bool = True,
) -> MeasurementJob:
    """Return one measurement of a trial.

    Args:
        study_dir: The study's folder.
        config: Its config.
        row: The trial's result row.
        request: Weights, radius and effort.
        attack: The attack.
        size: Images of the test split.
        chosen_by: What goes into the row.
        thorough: Whether the study's own attack is run with all checks; others never are. The Lipschitz estimate is
            measured with it.
    """
    from study.evaluation.jobs import MeasurementJob
    from trainables.evaluation.checkpoint import MeasurementSpec

    evaluation = config.evaluation
    own = attack == evaluation.attack
    single = attack == SINGLE_STEP
    examples = min(size, request.limit or evaluation.examples)
    lipschitz = evaluation.lipschitz
    spec = MeasurementSpec(
        checkpoint=weights_of(study_dir, config, row, request.checkpoint),
        trial=spec_of(config, study_dir, row),
        attack=attack,
        norm=request.norm or evaluation.norm,
        epsilon=evaluation.epsilon if request.epsilon is None else request.epsilon,
        steps=1 if single else request.steps or evaluation.steps,
        restarts=1 if single else request.restarts or evaluation.restarts,
        examples=examples,
        checks="full" if thorough and own else "cheap",
        lipschitz=replace(lipschitz, examples=min(lipschitz.examples, examples)) if own else None,
    )
    return MeasurementJob(folder=study_dir, row=row, checkpoint=request.checkpoint, chosen_by=chosen_by, spec=spec)


def _write_examples(
    path: Path, jobs: Sequence[MeasurementJob], data: ImageData, certificate: Certificate | None
) -> None:
    """Write one trial's outcomes; the points of its Lipschitz estimate, which no row holds, are searched for again."""
    from analysis.data.results import examples_file, read_examples
    from analysis.data.schema import ResultsError
    from study.evaluation.checkpoint import write_examples
    from trainables.checkpoints.format import CheckpointError
    from trainables.evaluation.checkpoint import measure_checkpoint
    from trainables.evaluation.lipschitz import LocalLipschitz

    estimates: list[LocalLipschitz] = []
    quick = replace(jobs[0].spec, attack=SINGLE_STEP, steps=1, restarts=1, checks="cheap")
    with usage_errors(ResultsError, CheckpointError, OSError):
        outcomes = {job.spec.attack: read_examples(examples_file(job.folder, job.key)) for job in jobs}
        with StageProgress() as progress:
            measure_checkpoint(quick, data, report=progress.report, on_lipschitz=estimates.append)
    columns = {"clean": outcomes[jobs[0].spec.attack]["clean_correct"]}
    columns |= {attack: table["robust_correct"] for attack, table in outcomes.items()}
    correct = {name: column.to_numpy(zero_copy_only=False) for name, column in columns.items()}
    write_examples(path, correct, estimates[0] if estimates else None, certificate)


def _print(
    study_dir: Path,
    rows: Sequence[dict[str, Any]],
    bounds: Sequence[Mapping[str, Any]],
    problems: Sequence[str],
    *,
    as_json: bool,
) -> None:
    from analysis.tables.heldout_tables import evaluation_table

    for problem in problems:
        notes().print(f"failed: {problem}")
    everything = evaluation_rows(study_dir)
    trials = {row["trial_id"] for row in rows}
    shown = [row for row in everything if row["trial_id"] in trials]
    if as_json:
        print_as_json({"evaluations": shown, "certified": list(bounds)}, everything, problems)
        return
    console = results()
    if shown:
        console.print(evaluation_table(rows, shown))
    if bounds:
        console.print(bounds_table(bounds))
    for line in uses_lines(everything):
        console.print(line)


def print_as_json(
    tree: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]], problems: Sequence[str], /
) -> None:
    """Print values on test as one JSON object, with all uses of test, from their evaluation rows, and what failed."""
    uses = {"test_uses": len(evaluations), "uses": uses_of_test(evaluations)}
    results().print_json(data={**tree, **uses, "failed": list(problems)})
