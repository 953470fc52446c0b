"""Messages between a driver that is about to stop and its workers: save now, and trial saved.

They go through the key-value store in Ray's head, which both can reach wherever the checkpoints lie. The keys contain
the id of Ray's job, which a driver shares only with its own workers.
"""

from __future__ import annotations

import logging

import ray
from ray.exceptions import RayError
from ray.experimental import internal_kv as store

logger = logging.getLogger(__name__)

_NAMESPACE = "robust-study"


def ask_to_save() -> None:
    """Ask every worker of this driver to save its trial between two batches."""
    store._internal_kv_put(_key("save"), b"1", namespace=_NAMESPACE)


def is_asked_to_save() -> bool:
    """Return whether this worker's driver has asked; False without Ray, or while its head is unreachable."""
    try:
        return ray.is_initialized() and bool(store._internal_kv_exists(_key("save"), namespace=_NAMESPACE))
    except (RayError, OSError):
        logger.debug("Ray's head does not answer", exc_info=True)
        return False


def report_saved(trial: str, /) -> None:
    """Report to the driver that a trial, by its id in Tune, was saved after the driver asked."""
    try:
        store._internal_kv_put(_key(f"saved:{trial}"), b"1", namespace=_NAMESPACE)
    except (RayError, OSError):
        logger.debug("Ray's head does not answer", exc_info=True)


def saved_since_asked() -> set[str]:
    """Return the ids in Tune of the trials that workers of this driver reported as saved."""
    prefix = _key("saved:")
    return {key.decode().removeprefix(prefix) for key in store._internal_kv_list(prefix, namespace=_NAMESPACE)}


def forget() -> None:
    """Delete the messages of this driver's job from the store."""
    try:
        store._internal_kv_del(_key(""), del_by_prefix=True, namespace=_NAMESPACE)
    except (RayError, OSError):
        logger.debug("Ray's head does not answer", exc_info=True)


def _key(name: str) -> str:
    return f"{ray.get_runtime_context().get_job_id()}:{name}"
