"""Strong attacks on the front's members, unasked, when a study ends: on validation, and never chosen by."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.fronts.front import front_of, spread_along
from analysis.fronts.objectives import FRONT, values
from analysis.fronts.strong_attacks import StrongResult, read_strong
from study.config.schema import StudyConfig
from study.console import notes
from study.directory.rows import require_same_images
from study.errors import short
from trainables.attacks import MissingExtraError, require_package
from trainables.attacks.multi_targeted import TARGETS
from trainables.attacks.square import QUERIES
from trainables.evaluation.flags import NOISE_DRAWS
from trainables.spec import EvaluationSpec

if TYPE_CHECKING:
    from study.evaluation.jobs import MeasurementJob

MEMBERS = 20
"""Most members that are attacked, spread along the front."""

STEPS = 20
"""Steps of the multi-targeted ascents."""

CERTIFY_SECONDS = 10.0
"""Time for the certificates of one member; images that are not tried by then count as not certified."""

AUTOATTACK_IMAGES = 30
"""Images that AutoAttack runs on where its package is installed: it takes twenty times as long as the others."""

AUTOATTACK_FROM = 100
"""With fewer images it is left out: most of its time is the same for any number, and would be that of all attacks."""


def strong_attacks(images: int, /) -> dict[str, int]:
    """Return the strong attacks that can run here, and on how many of so many images each does."""
    attacks = {"multi_targeted": images, "square": images}
    if images < AUTOATTACK_FROM:
        return attacks
    try:
        require_package("autoattack")
    except MissingExtraError:
        return attacks
    return attacks | {"autoattack": AUTOATTACK_IMAGES}


def strong_passes(evaluation: EvaluationSpec, /, *, images: int, classes: int) -> dict[int, int]:
    """Return how many gradients an image takes at most in the strong attacks and all checks of one member.

    Three queries without a gradient count as one.

    Args:
        evaluation: The study's.
        images: Images attacked.
        classes: Of the data set.

    Returns:
        The gradients by the number of images that are attacked together: all, and AutoAttack's.
    """
    targets = min(classes - 1, TARGETS)
    per_image = {
        "multi_targeted": STEPS * (classes - 1),
        "square": QUERIES // 3,
        # 100 steps of APGD, of targeted APGD and of FAB (two gradients) on each of nine classes; 5,000 queries
        "autoattack": 100 + 9 * 100 + 9 * 200 + 5000 // 3,
    }
    climbs = evaluation.steps * evaluation.restarts
    own = {
        "multi_targeted": climbs * (classes - 1),
        "reachable_targets": climbs * (targets + 2),
        "apgd_t": climbs * targets + targets,
        "square": per_image["square"] * evaluation.restarts,
        "autoattack": climbs + per_image["autoattack"],
    }
    attack = own.get(evaluation.attack, climbs)
    estimate = 2 * evaluation.lipschitz.steps * evaluation.lipschitz.restarts + 20  # two forms, and their starts
    # the checks repeat the attack with twice the steps and at a large radius, the estimate with twice the steps
    passes = {images: 4 * attack + 3 * estimate + NOISE_DRAWS["full"] // 3}
    for strong, count in strong_attacks(images).items():
        passes[count] = passes.get(count, 0) + per_image[strong]
    return passes


def attack_members(
    config: StudyConfig, study_dir: Path, table: Any, /, *, ended: Callable[[], bool] = bool
) -> dict[str, StrongResult]:
    """Attack the front's members by all that is affordable, and check the search's attack on them by all checks.

    What can be certified of them within seconds is too. Each measurement is kept as soon as it is there, and not done
    again. What fails is told in a line and costs the study nothing. On a cluster these are tasks with a trial's
    resources.

    Args:
        config: The study's config; `front.strong_images` of 0 attacks nothing.
        study_dir: Its folder.
        table: Its result rows.
        ended: Asked between measurements; once it is true, the rest is left for the next `resume`.

    Returns:
        What is known of members under strong attacks, by trial id.
    """
    from study.evaluation.jobs import only_evaluation, run_jobs
    from trainables.data import load_dataset

    try:
        front = front_of(table)
        if not front.num_rows or not config.front.strong_images or not config.evaluation.epsilon:
            return {}
        members = front.take(spread_along(values(front, FRONT), cap=MEMBERS)).to_pylist()
        jobs = [job for row in members for job in _jobs(config, study_dir, row)]
        if not all(job.done for job in jobs):
            some = f"{len(members)} of {front.num_rows}" if len(members) < front.num_rows else f"the {len(members)}"
            notes().print(f"strong attacks on {some} member{'s' * (len(members) != 1)} of the front, on validation ...")
            data = load_dataset(config.dataset).without_test()
            require_same_images(members, data.split_hash, name=data.name, remedy="--set dataset.root=FOLDER")
            with only_evaluation(study_dir):
                problems = run_jobs(jobs, config=config, data=data, address=config.cluster.address, ended=ended)
            for problem in problems:
                notes().print(f"not attacked: {problem}")
        return read_strong(study_dir, table)
    except Exception as error:  # noqa: BLE001 - the results are on disk, so a failure here must not fail the study
        notes().print(f"the front was not attacked: {short(error)}")
        return {}


def _jobs(config: StudyConfig, study_dir: Path, row: Mapping[str, Any]) -> list[MeasurementJob]:
    """Return the search's own attack under all checks, and each strong attack."""
    from study.evaluation.jobs import own_attack

    lipschitz, images = config.evaluation.lipschitz, min(row["examples"], config.front.strong_images)
    search = own_attack(study_dir, config, row, images=images)
    own = replace(
        search.spec,
        checks="full",
        lipschitz=replace(lipschitz, examples=min(lipschitz.examples, images)),
        certify_seconds=CERTIFY_SECONDS,
    )
    attacked = replace(search.spec, steps=STEPS, restarts=1)
    others = [replace(attacked, attack=attack, examples=n) for attack, n in strong_attacks(images).items()]
    return [replace(search, spec=spec) for spec in (own, *others)]
