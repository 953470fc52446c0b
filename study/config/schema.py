"""The schema of a study's config, which is checked as a whole before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from search_spaces.dimensions import SpaceError
from search_spaces.space import SearchSpace, build_space
from search_spaces.start_points import paper_points
from study.config.certified import check_certify
from study.config.early_stopping import SchedulerConfig, check_equal, check_stopping
from study.config.search_section import FrontConfig, SearchConfig, Section, check_names
from study.config.trust import own_code, reading
from study.config.validation_messages import NAME_PATTERN, explain
from study.config.values import check_address, check_location, storage_problem, uri_problem
from study.console import notes
from study.errors import UsageError, usage_errors
from trainables.attacks import ATTACKS, MissingExtraError, require_package
from trainables.data import DATASETS
from trainables.data.roots import expanded
from trainables.methods import METHODS
from trainables.models import MODELS
from trainables.registry import OwnCodeError, UnknownNameError
from trainables.seeding import derive
from trainables.settings import settings_of
from trainables.spec import CraftMode, DatasetSpec, EvaluationSpec, ModelSpec, TrainingSpec, TrialSpec


class ResourcesConfig(Section):
    """The resources of each trial, equal for all trials so that they can reuse worker processes."""

    cpus: Annotated[float, Field(gt=0)] = 1
    # `auto`: the smallest share of a GPU that fits the trials of every method, measured before the first trial
    gpus: float | Literal["auto"] = 0
    custom: dict[str, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    accelerator_type: str | None = None
    max_concurrent: Annotated[int, Field(ge=1)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _gpus_are_known(cls, tree: Any) -> Any:
        gpus = tree.get("gpus", 0) if isinstance(tree, Mapping) else 0
        if gpus != "auto" and (isinstance(gpus, bool) or not isinstance(gpus, (int, float)) or not gpus >= 0):
            raise ValueError(f"`gpus` must be auto or a number, 0 or more, got {gpus!r}")
        return tree

    @model_validator(mode="after")
    def _fits_ray(self) -> ResourcesConfig:
        if self.gpus != "auto" and self.gpus > 1 and self.gpus % 1:
            raise ValueError(f"`gpus` must be a fraction up to 1 or a whole number, got {self.gpus:g}")
        for name in self.custom:
            if name.lower() in {"cpu", "gpu", "memory", "object_store_memory"}:
                raise ValueError(f"`custom` must name the cluster's own resources, got {name!r} (use `cpus`, `gpus`)")
        if self.accelerator_type is not None and not self.gpus:
            raise ValueError(f"`accelerator_type` {self.accelerator_type!r} needs `gpus` above 0, got {self.gpus:g}")
        return self


class ClusterConfig(Section):
    """The Ray cluster that runs the trials: `auto`, HOST:PORT, or null, which starts one on this machine."""

    address: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _former_keys_are_ignored(cls, tree: Any) -> Any:
        if isinstance(tree, Mapping) and "trials_per_driver" in tree:
            if tree["trials_per_driver"] is not None:
                _print_once("`cluster.trials_per_driver` is ignored: one driver runs all trials of a study")
            return {key: value for key, value in tree.items() if key != "trials_per_driver"}
        return tree

    @model_validator(mode="after")
    def _address_is_known(self) -> ClusterConfig:
        check_address(self.address)
        return self


class StorageConfig(Section):
    """Where Optuna's trials and the checkpoints are written, how often, and which checkpoints are kept.

    Null is the study's folder. `checkpoints` is a path or an s3:// or gs:// URL, in which each study has a folder of
    its own; they are written after every epoch, and within an epoch every `checkpoint_minutes`. `keep` is `contenders`
    (trials that did not fail and are not beaten by more than 0.05 in every objective), `front` or `all`.
    """

    checkpoints: str | None = None
    optuna: str | None = None
    checkpoint_minutes: Annotated[float, Field(gt=0)] | None = 10
    keep: Literal["all", "contenders", "front"] = "contenders"

    @field_validator("optuna", mode="after")
    @classmethod
    def _storage_is_known(cls, storage: str | None) -> str | None:
        problem = None if storage is None else storage_problem(storage)
        if problem:
            raise ValueError(problem)
        return storage

    @model_validator(mode="after")
    def _location_is_known(self) -> StorageConfig:
        check_location(self.checkpoints)
        return self


class TrackingConfig(Section):
    """The MLflow store; null is `sqlite:///mlflow.db` in the working folder.

    At most `models` members of the front get figures, weights and a model there.
    """

    uri: str | None = None
    experiment: Annotated[str, Field(min_length=1)] | None = None
    models: Annotated[int, Field(ge=0)] = 10

    @model_validator(mode="after")
    def _store_and_no_secret(self) -> TrackingConfig:
        problem = None if self.uri is None else uri_problem(self.uri)
        if problem:
            raise ValueError(f"`uri` {problem}")
        return self


class StudyConfig(Section):
    """A study's config. Every key but `name`, `dataset.name` and `search.space` has a default."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    dataset: DatasetSpec
    model: ModelSpec = ModelSpec()
    training: TrainingSpec = TrainingSpec()
    evaluation: EvaluationSpec = EvaluationSpec()
    search: SearchConfig
    front: FrontConfig = FrontConfig()
    scheduler: SchedulerConfig = SchedulerConfig()
    resources: ResourcesConfig = ResourcesConfig()
    cluster: ClusterConfig = ClusterConfig()
    storage: StorageConfig = StorageConfig()
    tracking: TrackingConfig = TrackingConfig()

    @model_validator(mode="after")
    def _names_exist(self) -> StudyConfig:
        if "/" in self.dataset.name and not expanded(self.dataset.name).is_dir():
            raise ValueError(f"`dataset.name`: folder {self.dataset.name} of Parquet files does not exist")
        if not expanded(self.dataset.name).is_dir():
            check_names("dataset.name", [self.dataset.name], DATASETS)
        check_names("model.name", [self.model.name], MODELS)
        check_names("evaluation.attack", [self.evaluation.attack], ATTACKS)
        try:
            require_package(self.evaluation.attack)
        except MissingExtraError as error:
            raise ValueError(f"`evaluation.attack`: {error}") from error
        check_stopping(self.scheduler, self.training, self.evaluation)
        check_certify(self.evaluation.certify, self.scheduler, self.search.objectives, self.search.constraints)
        return self

    @property
    def num_trials(self) -> int:
        """Return how many trials the complete study has: `search.num_trials`, or all seeds of a smaller grid."""
        trials = self.search.num_trials
        if self.search.sampler != "grid" or (reading() and own_code(self.search.model_dump())):
            return trials
        return min(trials, self.search.seeds * len(self.space().grid()))

    def space(self) -> SearchSpace:
        """Return the study's search space.

        Raises:
            UsageError: A range or fixed value does not fit the space.
        """
        search = self.search
        with usage_errors(SpaceError, OwnCodeError, UnknownNameError):
            return build_space(
                search.space,
                methods=search.methods,
                evaluation=self.evaluation,
                ranges=search.ranges,
                fixed=search.fixed,
            )

    def trial_spec(self, proposal: Mapping[str, Any], *, number: int) -> TrialSpec:
        """Return the spec of a trial: the study's settings, updated with the values of a proposal.

        Args:
            proposal: `method` and values by setting name, as `SearchSpace.draw` returns them.
            number: The trial's number; its seed is derived from it and `search.seed`.
        """
        values = dict(proposal)
        method = values.pop("method")
        params = {name: values.pop(name) for name in settings_of(METHODS.load(method)) if name in values}
        train_epsilon = values.pop("train_epsilon", None)
        model = {**vars(self.model), **_pop_settings(values, ModelSpec)}
        training = {**vars(self.training), **_pop_settings(values, TrainingSpec)}
        training["craft_mode"] = CraftMode.of(training["craft_mode"])
        return TrialSpec(
            dataset=self.dataset,
            model=ModelSpec(**model),
            training=TrainingSpec(**training),
            evaluation=self.evaluation,
            method=method,
            params=params,
            train_epsilon=train_epsilon,
            seed=derive(self.search.seed, "trial", number),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the config as plain nested values, which `parse_config` turns into an equal config."""
        return self.model_dump(mode="json")


@cache
def _print_once(line: str) -> None:
    notes().print(line)


def parse_config(tree: Any, /) -> StudyConfig:
    """Check a config tree and return the study's config.

    Args:
        tree: Nested mappings as read from YAML.

    Raises:
        UsageError: The config is invalid; one line per mistake: the field, what is required, what was given.
    """
    if not isinstance(tree, Mapping):
        raise UsageError(f"a study's config must be a mapping with `name`, `dataset` and `search`, got {tree!r}")
    try:
        config = StudyConfig.model_validate(tree)
    except ValidationError as error:
        raise UsageError(*explain(error, StudyConfig)) from error
    if reading():  # it was checked when the study was launched, and the space may be code
        return config
    space = config.space()
    with usage_errors(SpaceError, ValueError):
        keys = [*(one.key for one in space.dimensions), *space.fixed]
        check_equal(config.scheduler, {key: _place(key, config.search, space.name) for key in keys})
        if config.search.sampler == "grid":
            space.grid()
        if config.search.start_from is not None:
            paper_points(space, epsilon=config.evaluation.epsilon)
    return config


def _place(key: str, search: SearchConfig, space: str) -> str:
    """Return where a config names what the search draws or fixes; the space if the config does not."""
    named = [(part, name) for part in ("ranges", "fixed") for name in (key, key.rpartition(".")[2])]
    found = (f"search.{part}.{name}" for part, name in named if name in getattr(search, part))
    return next(found, f"{space}.{key}")


def _pop_settings(values: dict[str, Any], cls: type) -> dict[str, Any]:
    return {name: values.pop(name) for name in settings_of(cls) if name in values}
