"""What a study's config says of the search and of the front that it looks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from analysis.fronts.objectives import OBJECTIVES, parse_constraint
from search_spaces import SPACES
from study.config.trust import reading
from study.config.values import parse_duration
from trainables.methods import METHODS, PAPER_METHODS
from trainables.registry import Registry, UnknownNameError, nearest

Range = list[Any] | dict[str, Any]

ALL = "all"
"""In place of a list of methods."""


class Section(BaseModel):
    """A section of a config, whose keys are checked."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class SearchConfig(Section):
    """The search space, and how trials are proposed."""

    space: str
    methods: list[str] = Field(default_factory=lambda: list(PAPER_METHODS), min_length=1)  # a list, or `all`
    num_trials: Annotated[int, Field(ge=1)] = 100
    time_budget: str | None = None
    sampler: Literal["tpe", "nsga2", "nsga3", "gp", "random", "grid"] = "tpe"
    seed: int = 0
    objectives: list[str] = Field(default=["val_clean_accuracy", "val_robust_accuracy"], min_length=1)
    constraints: list[str] = []
    random_fraction: Annotated[float, Field(ge=0, le=1)] = 0.2
    seeds: Annotated[int, Field(ge=1)] = 1  # of each point of a grid
    ranges: dict[str, Range] = {}
    fixed: dict[str, Any] = {}
    start_from: Literal["paper"] | None = None

    @property
    def time_limit(self) -> float | None:
        """Return the time budget in seconds; None for no limit."""
        return None if self.time_budget is None else parse_duration(self.time_budget)

    @field_validator("methods", mode="before")
    @classmethod
    def _all_methods_are_listed(cls, methods: object) -> object:
        listed = [methods] if methods == ALL else methods
        if not isinstance(listed, list) or ALL not in listed:
            return methods
        return [name for entry in listed for name in (METHODS if entry == ALL else [entry])]

    @field_validator("time_budget", mode="before")
    @classmethod
    def _time_parses(cls, duration: object) -> object:
        if duration is not None:
            parse_duration(duration)
        return duration

    @field_validator("constraints", mode="after")
    @classmethod
    def _constraints_parse(cls, declared: list[str]) -> list[str]:
        return list(dict.fromkeys(str(parse_constraint(text)) for text in declared))

    @model_validator(mode="after")
    def _names_exist(self) -> SearchConfig:
        check_names("space", [self.space], SPACES)
        check_names("methods", self.methods, METHODS)
        # a study that was launched with an objective twice can still be read
        for field in ("methods",) if reading() else ("methods", "objectives"):
            names = getattr(self, field)
            if repeated := {name for name in names if names.count(name) > 1}:
                raise ValueError(f"`{field}` lists {sorted(repeated)[0]!r} more than once")
        if self.sampler == "grid" and self.start_from is not None:
            raise ValueError("`start_from` has no effect with `sampler: grid`: list the paper's values in `ranges`")
        if self.sampler != "grid" and self.seeds != 1:
            raise ValueError(
                f"`seeds` repeats the points of a grid, got {self.seeds} with `sampler: {self.sampler}`: set "
                "`sampler: grid`, or leave it out"
            )
        # a search must not use test data
        valid = [name for name, objective in OBJECTIVES.items() if objective.split == "val"]
        for name in self.objectives:
            if name not in valid:
                raise ValueError(f"`objectives` has no {name!r}{nearest(name, valid)}; valid: {', '.join(valid)}")
        return self


class FrontConfig(Section):
    """The hypervolume's reference point, and how many validation images of its members are attacked at the study's end.

    A value of `reference` replaces its objective's default; `strong_images` of 0 turns the strong attacks off.
    """

    reference: dict[str, Annotated[float, Field(allow_inf_nan=False)]] = {}
    strong_images: Annotated[int, Field(ge=0)] = 200

    @model_validator(mode="after")
    def _names_exist(self) -> FrontConfig:
        for name in self.reference:
            if name not in OBJECTIVES:
                close = nearest(name, [*OBJECTIVES])
                raise ValueError(f"`reference` has no objective {name!r}{close}; valid: {', '.join(OBJECTIVES)}")
        return self


def check_names(field: str, names: Sequence[str], registry: Registry, /) -> None:
    """Check that names are registered, or name a user's own code.

    Raises:
        ValueError: One is unknown.
    """
    for name in names:
        try:
            registry.check(name)
        except UnknownNameError as error:
            raise ValueError(f"`{field}`: {error}") from error
