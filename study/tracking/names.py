"""The tags by which runs are found. Importing this loads nothing."""

STUDY_TAG = "robust_study.study_id"
TRIAL_TAG = "robust_study.trial_id"
STUDY = "study"
"""The parent run's `TRIAL_TAG`."""
PARENT_TAG = "mlflow.parentRunId"
ON_FRONT = "on_front"
