"""A search space: that of `core` with the learning rate instead of dropout."""

from collections.abc import Sequence
from dataclasses import replace

from search_spaces.core import core
from search_spaces.dimensions import Dimension, from_setting
from trainables.settings import settings_of
from trainables.spec import EvaluationSpec, TrainingSpec


def learning_rates(*, methods: Sequence[str], evaluation: EvaluationSpec) -> list[Dimension]:
    """Return one dimension for each quantity that trials draw."""
    rate = replace(settings_of(TrainingSpec)["lr"], search=(1e-3, 1e-1), log=True)
    shared = [one for one in core(methods=methods, evaluation=evaluation) if one.name != "dropout"]
    return [from_setting(rate), *shared]
