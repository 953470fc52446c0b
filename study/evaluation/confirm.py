"""The command `confirm`: the front's members trained again with new seeds, and everything shown on test."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.heldout.members import CONFIRM_FOLDER as FOLDER
from study.config.early_stopping import SchedulerConfig
from study.config.loading import write_yaml
from study.config.schema import StudyConfig
from study.config.search_section import SearchConfig
from study.console import notes, quoted, results
from study.directory.layout import CONFIG_FILE, open_config
from study.directory.rows import evaluation_rows, read_rows
from study.directory.seed_plan import Plan, Replica, read_plan
from study.errors import UsageError, usage_errors
from study.evaluation.selection import chosen_members
from study.evaluation.study_trials import EvaluationRequest, data_with_test, job_of, print_as_json
from trainables.data.roots import expanded
from trainables.seeding import derive

if TYPE_CHECKING:
    from trainables.data.base import ImageData


def confirm(study_dir: Path, request: EvaluationRequest, /, *, seeds: int, as_json: bool) -> None:
    """Train chosen members with new seeds, measure those and the members themselves on test, and print both.

    Run again, it goes on where it was stopped, or adds what more seeds or members ask for. Exit code 1 when a seed
    or a measurement failed.

    Args:
        study_dir: The study's folder.
        request: The members, the test images, the data set's place here, the Ray cluster; the study's own when None.
        seeds: New seeds for each member.
        as_json: Print one JSON object instead of a table.

    Raises:
        UsageError: No such study, no front, another process at work, data or cluster that are not there.
    """
    from study.directory.lock import only_driver
    from study.tracking.tracker import known_study_id

    config = open_config(study_dir)
    members = chosen_members(study_dir, read_rows([study_dir]), most=request.most)
    folder = study_dir / FOLDER
    folder.mkdir(exist_ok=True)
    data = data_with_test(config, members, data_root=request.data_root)
    with only_driver(folder):
        before = read_plan(folder) or Plan((), known_study_id(study_dir))
        plan = extend_plan(before, config, study_dir, members, seeds=seeds)
        if len(plan) > len(before):
            plan.write(folder)  # before anything is trained
        _claim(config, study_dir)
        own = confirm_config(config, plan, request)
        write_yaml(folder / CONFIG_FILE, own.to_dict())
        _train(own, folder, data=data.without_test())
    problems = _measure(study_dir, config, own, members, request, data=data)
    show(study_dir, [row["trial_id"] for row in members], problems=problems, as_json=as_json)
    if problems:
        raise SystemExit(1)


def confirm_config(config: StudyConfig, plan: Plan, request: EvaluationRequest, /) -> StudyConfig:
    """Return the config of the confirmation: the study's, with a plan in place of its search."""
    search: SearchConfig = config.search.model_copy(
        update={"num_trials": len(plan), "time_budget": None, "sampler": "random", "seeds": 1, "start_from": None}
    )
    changes: dict[str, Any] = {
        "name": f"{config.name}-{FOLDER}",
        "search": search,
        "scheduler": SchedulerConfig(),
        # every network is still to be measured on test
        "storage": config.storage.model_copy(update={"keep": "all"}),
    }
    if request.address is not None:
        changes["cluster"] = config.cluster.model_copy(update={"address": request.address})
    if request.data_root is not None:
        changes["dataset"] = replace(config.dataset, root=str(expanded(request.data_root).resolve()))
    return config.model_copy(update=changes)


def extend_plan(
    plan: Plan, config: StudyConfig, study_dir: Path, members: Sequence[Mapping[str, Any]], /, *, seeds: int
) -> Plan:
    """Return the plan with the missing seeds of each member added; nothing is taken out or changed.

    The first new seed of every member comes before anyone's second, so that a plan cut short is a balanced one.

    Args:
        plan: What is planned already.
        config: The config of the study that the members belong to.
        study_dir: Its folder.
        members: Their result rows.
        seeds: New seeds for each.
    """
    from study.search.optuna_study import open_search

    planned = {replica.trial_id for replica in plan.replicas}
    taken = {row["seed"] for row in members}
    missing = [(row, n) for n in range(1, seeds + 1) for row in members if _replica_id(row, n) not in planned]
    search = open_search(config, study_dir) if missing else None
    added = [_replica(config, search, row, repeat=repeat, taken=taken) for row, repeat in missing]
    return Plan((*plan.replicas, *added), plan.parent_study_id)


def _replica_id(row: Mapping[str, Any], repeat: int) -> str:
    return f"{row['trial_id']}-s{repeat}"


def _replica(config: StudyConfig, search: Any, row: Mapping[str, Any], *, repeat: int, taken: set[int]) -> Replica:
    from study.search.optuna_study import proposal_of

    number = int(row["number"])
    if number >= len(search.get_trials(deepcopy=False)):
        raise UsageError(
            f"the searcher's storage holds no trial {row['trial_id']}, so its settings are not known exactly: put the "
            "study's optuna.db back"
        )
    spec = config.trial_spec(proposal_of(search, config.space(), number), number=number).to_dict()
    seed = derive(config.search.seed, "confirm", number, repeat)
    if seed in taken or seed == spec["seed"]:
        raise AssertionError(f"seed {seed} is a parent's")  # one chance in 2**63 for each pair
    return Replica(
        trial_id=_replica_id(row, repeat),
        parent=row["trial_id"],
        parent_number=number,
        repeat=repeat,
        seed=seed,
        proposal=row["proposal"],
        params=search.get_trials(deepcopy=False)[number].params,
        spec=spec | {"seed": seed},
    )


def _claim(config: StudyConfig, study_dir: Path) -> None:
    """Make sure that the new seeds' checkpoints go to a folder of their study's own; see `claim`."""
    from study.directory.checkpoint_folder import claim
    from study.search.optuna_study import open_search
    from study.search.trial_specs import specs_of

    if config.storage.checkpoints is not None:
        search = open_search(config, study_dir)
        study_id = search.user_attrs.get("study_id") or uuid.uuid4().hex
        claim(config, study_dir, study_id=study_id, specs=lambda: specs_of(config, study_dir, search))


def _train(config: StudyConfig, folder: Path, *, data: ImageData) -> None:
    """Train the seeds that are missing, as trials of a study of its own; exit if the run failed or was stopped."""
    from study.cluster.preflight import check_machines, require
    from study.cluster.ray_settings import listen_locally
    from study.cluster.start import Start
    from study.driver.signals import StopSignals

    if config.cluster.address is None:
        listen_locally()
    with StopSignals() as interrupts:
        from study.directory.rows import count_rows
        from study.driver.tune_run import RunFailedError, run_study

        done = count_rows(folder)
        notes().print(f"{config.num_trials} networks with new seeds, in {folder}: {done} trained already")
        if done < config.num_trials:
            require(Start(config, folder, is_new=False), [check_machines])
        failed = False
        try:
            tracker = run_study(config, folder, data=data, interrupts=interrupts)
        except RunFailedError as error:
            notes().print(f"the run failed: {error}")
            tracker, failed = error.tracker, True
        complete = count_rows(folder) >= config.num_trials
        problem = tracker.close(
            "FINISHED" if complete else "KILLED", reason=None if complete else "stopped before all seeds were trained"
        )
        if problem:
            notes().print(
                f"MLflow is missing: {problem}. Every result is in {folder}; upload them with: "
                f"robust-study sync {quoted(folder)}"
            )
        if not complete or failed:
            notes().print("run the same command again to resume")
            sys.exit(interrupts.exit_code or 1)


def _measure(
    study_dir: Path,
    config: StudyConfig,
    own: StudyConfig,
    members: Sequence[dict[str, Any]],
    request: EvaluationRequest,
    *,
    data: ImageData,
) -> list[str]:
    """Measure the members' own checkpoints and the new seeds' on test; return a line for each that failed."""
    from study.evaluation.jobs import check_weights, only_evaluation, run_jobs
    from study.tracking.post_run import track_tested

    folder = study_dir / FOLDER
    size = len(data.test or ())
    examples = min(size, request.limit or config.evaluation.examples)
    measured = evaluation_rows(study_dir)
    numbers = {row["number"] for row in members}
    replicas = read_rows([folder]).to_pylist()
    rows = [row for row in replicas if row["status"] != "failed" and row["replicate_of"] in numbers]
    options: dict[str, Any] = {
        "attack": config.evaluation.attack,
        "size": size,
        "chosen_by": "confirm",
        "thorough": False,
    }
    unmeasured = [row for row in members if not measured_enough(row, measured, examples=examples)]
    jobs = [job_of(study_dir, config, row, request, **options) for row in unmeasured]
    jobs += [job_of(folder, own, row, request, **options) for row in rows]
    todo = [job for job in jobs if not job.done]
    check_weights(todo)
    notes().print(
        f"{len(members)} member{'s' * (len(members) != 1)} and {len(rows)} new seeds on the first {examples} of {size} "
        f"test images: {len(todo)} measurements to do"
    )
    with only_evaluation(study_dir):
        problems = run_jobs(jobs, config=own, data=data, address=own.cluster.address)
    if todo:
        measured = evaluation_rows(study_dir)
        track_tested(config, study_dir, members, measured)
        track_tested(own, folder, rows, measured)
    return problems


def measured_enough(row: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]], /, *, examples: int) -> bool:
    """Return whether a member has its like-for-like measurement on so many test images, and a Lipschitz estimate there.

    Args:
        row: Its result row.
        evaluations: Evaluation rows.
        examples: Test images asked for.
    """
    from analysis.heldout.measurements import like_for_like, lipschitz_on_test

    before = like_for_like(row, evaluations)
    return before is not None and before["examples"] >= examples and lipschitz_on_test(row, evaluations) is not None


def show(study_dir: Path, trials: Sequence[str], /, *, problems: Sequence[str], as_json: bool) -> None:
    """Print what is known of chosen members on test, and how often test was used.

    Raises:
        UsageError: Damaged files.
    """
    from analysis.data.schema import ResultsError
    from analysis.heldout.confirmation import as_tree
    from analysis.heldout.measurements import uses_lines
    from analysis.heldout.members import curse_lines, read_on_test
    from analysis.tables.heldout_tables import confirmation_table

    for problem in problems:
        notes().print(f"failed: {problem}")
    with usage_errors(ResultsError):
        on_test = read_on_test(study_dir, read_rows([study_dir]), trials=trials)
    if on_test is None:
        return
    if as_json:
        curse = {kind: vars(one) for kind, one in on_test.curse.items()}
        print_as_json({"members": as_tree(on_test.members), "winners_curse": curse}, on_test.evaluations, problems)
        return
    console = results()
    console.print(confirmation_table(on_test.members, notes=curse_lines(on_test)))
    for line in uses_lines(on_test.evaluations):
        console.print(line)
