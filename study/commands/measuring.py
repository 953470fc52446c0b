"""Commands that train or measure one thing, without a cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from study.commands import evaluate_options as given
from study.commands.options import CAP, AllowCode, AsJson, DataRoot, StudyDir
from study.errors import UsageError
from trainables.spec import Norm

app = typer.Typer()


@app.command()
def train(
    source: Annotated[
        Path, typer.Argument(metavar="STUDY_DIR|SPEC.yaml", help="A study's folder, or the spec of one trial.")
    ],
    trial: Annotated[str | None, typer.Option(metavar="ID", help="Trial of the study to train again.")] = None,
    save: Annotated[Path | None, typer.Option(metavar="FILE", help="File for the trained network.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the row as JSON.")] = False,
    allow_code: AllowCode = False,
) -> None:
    """Train one trial without Ray and print its row.

    For a trial of a study, the row is compared with the recorded one.
    """
    from study.lifecycle.train_trial import retrain

    retrain(source, trial=trial, save=save, as_json=as_json)


@app.command()
def evaluate(
    study_dir: given.Study = None,
    front: given.Front = False,
    trial: given.Trials = None,
    most: given.Most = CAP,
    checkpoint: given.Checkpoint = None,
    model: given.Model = None,
    dataset: given.Dataset = None,
    epsilon: given.Epsilon = None,
    norm: given.AnyNorm = None,
    attack: given.Attack = None,
    steps: given.Steps = None,
    restarts: given.Restarts = None,
    limit: given.Limit = None,
    examples: given.Examples = None,
    distances: given.Distances = False,
    address: given.Address = None,
    data_root: DataRoot = None,
    normalize: given.Normalize = None,
    weights: given.Weights = None,
    as_json: AsJson = False,
    allow_code: AllowCode = False,
) -> None:
    """Measure a study's trials or a checkpoint on test.

    robust-study evaluate STUDY_DIR --front [--attack autoattack --limit 200] evaluates the trials on the front, chosen
    on validation; --trial ID evaluates any trial, and adds certified bounds. Rows are kept in STUDY_DIR/evaluations.

    robust-study evaluate --checkpoint FILE --model NAME --dataset NAME --epsilon 8/255 needs no study: it measures
    clean accuracy, accuracy under attack, local Lipschitzness and certified bounds, and flags suspicious measurements.
    """
    if distances:
        _measure_distances(locals())
        return
    from study.evaluation.attack_choice import ALL, ALWAYS, parse_attacks
    from study.evaluation.checkpoint import evaluate_checkpoint, parse_radius

    radius = None if epsilon is None else parse_radius(epsilon)
    name, always = (attack or ALL, ALWAYS) if study_dir is None else (attack, ())
    attacks = () if name is None else parse_attacks(name, always=always)
    given.check_folder_of(examples)
    common: dict[str, Any] = {"attacks": attacks, "limit": limit, "examples": examples, "data_root": data_root}
    if study_dir is not None:
        own = {"model": model, "dataset": dataset, "normalize": normalize, "weights": weights}
        given.refuse(own, f"{study_dir}: a study has its own")
        if checkpoint not in (None, "last", "best"):
            raise UsageError(f"--checkpoint of a study's trials must be last or best, got {checkpoint!r}")
        from study.evaluation.study_trials import EvaluationRequest, evaluate_study

        common |= {"front": front, "trials": tuple(trial or ()), "most": most, "checkpoint": checkpoint or "last"}
        common |= {"norm": norm, "epsilon": radius, "address": address, "steps": steps, "restarts": restarts}
        evaluate_study(study_dir, EvaluationRequest(**common), as_json=as_json)
    else:
        given.refuse({"front": front, "trial": trial, "address": address}, "a checkpoint: name the study's folder")
        from study.evaluation.checkpoint_input import CheckpointRequest

        common |= given.required(checkpoint=checkpoint, model=model, dataset=dataset, epsilon=radius)
        common |= {"steps": steps or 20, "restarts": restarts or 1, "norm": norm or "linf"}
        common |= {"normalisation": normalize, "weights": weights}
        evaluate_checkpoint(CheckpointRequest(**common), as_json=as_json)


def _measure_distances(asked: dict[str, Any]) -> None:
    """Measure what `evaluate --distances` asks for, given all of that command's options by name."""
    from study.evaluation.front_distances import DistanceRequest, measure_distances

    taken = ("study_dir", "front", "trial", "most", "limit", "distances", "data_root", "as_json", "allow_code")
    others = {name: value for name, value in asked.items() if name not in taken}
    given.refuse(others, "--distances: it uses the study's own settings")
    if asked["study_dir"] is None:
        raise UsageError("--distances needs a study's folder: evaluate STUDY_DIR --front --distances")
    options = {"front": asked["front"], "trials": tuple(asked["trial"] or ()), "most": asked["most"]}
    request = DistanceRequest(**options, limit=asked["limit"], data_root=asked["data_root"])
    measure_distances(asked["study_dir"], request, as_json=asked["as_json"])


@app.command()
def confirm(
    study_dir: StudyDir,
    seeds: Annotated[int, typer.Option(min=1, metavar="K", help="New seeds for each member.")],
    most: Annotated[
        int, typer.Option("--max", min=1, metavar="N", help="Maximum number of members, spread along the front.")
    ] = CAP,
    limit: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="N", help="Measure the first N test images in file order. [default: evaluation.examples]"
        ),
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(metavar="auto|HOST:PORT", help="Ray cluster to train and measure on. [default: the study's own]"),
    ] = None,
    data_root: DataRoot = None,
    as_json: AsJson = False,
    allow_code: AllowCode = False,
) -> None:
    """Retrain the front with new seeds; measure on test.

    The members are chosen on validation once and stored in STUDY_DIR/chosen.json. Two numbers are reported
    separately: the winner's curse, validation minus test accuracy of the same checkpoint; and the spread between seeds
    on test.
    Results are stored in STUDY_DIR/confirm; run the same command again to resume, or with more seeds to add them.
    """
    from study.evaluation.confirm import confirm as start
    from study.evaluation.study_trials import EvaluationRequest

    request = EvaluationRequest(
        front=True, trials=(), most=most, attacks=(), limit=limit, address=address, data_root=data_root
    )
    start(study_dir, request, seeds=seeds, as_json=as_json)


@app.command()
def separation(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET|STUDY_DIR",
            help="Name of a data set (see `list datasets`), a folder of Parquet files, or a study's folder.",
        ),
    ],
    norm: Annotated[Norm | None, typer.Option(help="Norm of the distances. [default: linf; a study's own]")] = None,
    data_root: DataRoot = None,
    train_size: Annotated[
        int | None, typer.Option("--train", metavar="N", help="Use the first N training images. [default: all]")
    ] = None,
    test_size: Annotated[
        int | None, typer.Option("--test", metavar="N", help="Use the first N test images. [default: all]")
    ] = None,
    epsilon: Annotated[
        str | None,
        typer.Option(
            metavar="RADIUS", help="Radius of the certified accuracy, e.g. 8/255. [default: 0.1; a study's own]"
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(hidden=True)] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Parent folder of the output folder. [default: separation]")
    ] = None,
    as_json: AsJson = False,
    allow_code: AllowCode = False,
) -> None:
    """Measure the distances between a data set's classes.

    The distances are exact. The smallest between two classes is 2r, given with and without identical images that carry
    different labels; the nearest-class classifier certifies its predictions within half the gap to the next class. For
    a study the classifier is built on its training images and certified on its validation images, and kept in its
    folder for `pareto` and `report`.
    """
    from study.directory.layout import CONFIG_FILE
    from study.evaluation.separation import separation as measure
    from study.evaluation.study_separation import separation_of_study as measure_study

    if device is not None:
        raise UsageError("--device has been removed: distances are computed on the CPU; leave the option out")
    if (Path(dataset) / CONFIG_FILE).is_file():
        given = {"--norm": norm, "--train": train_size, "--test": test_size, "--out": out}
        if extra := [name for name, value in given.items() if value is not None]:
            raise UsageError(f"{', '.join(extra)} cannot be given for a study, whose own images and norm are used")
        measure_study(Path(dataset), data_root=data_root, epsilon=epsilon, as_json=as_json)
        return
    measure(
        dataset,
        norm=norm or "linf",
        data_root=data_root,
        train=train_size,
        test=test_size,
        epsilon=epsilon,
        out=out or Path("separation"),
        as_json=as_json,
    )
