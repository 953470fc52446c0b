"""Ray's environment: keeps its chatter off the user's screen and its listeners off the network.

What goes wrong reaches the user through the study's own lines.
"""

from __future__ import annotations

import logging
import os
import warnings

_SETTINGS = {
    # Tune's tables would fight with the study's own live line
    "RAY_AIR_NEW_OUTPUT": "0",
    # a failed try's stack trace: the study says which trial failed and why, and keeps the trace in errors/
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    # no tensorboardX, no three log files a trial
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    # a report between two measurements has no new objective values, and the searcher takes none
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    # the study takes signals itself, SIGTERM too
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    # nothing is resumed from Tune's own state, and writing it takes longer the more trials there are
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    # the limiter's figure follows the nodes; Tune's own, of trials that wait for room, is read once and would not
    "TUNE_MAX_PENDING_TRIALS_PG": "100000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",
}


def quiet_ray() -> None:
    """Set what Ray reads when it is imported. Settings the user made stay."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"ray\..*")
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"ray\..*")
    for name in ("ray", "ray.tune", "ray.data", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    # it repeats which trials failed, without saying why
    logging.getLogger("ray.tune.tune").setLevel(logging.CRITICAL)


def listen_locally() -> None:
    """Let a Ray that is started here listen on 127.0.0.1 alone; call it before Ray is imported.

    The variable is Ray's own way to keep a machine from being part of a cluster; its name tells for which systems that
    is the default. Asked for 127.0.0.1 as its address, Ray takes the outward one instead.
    """
    os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
