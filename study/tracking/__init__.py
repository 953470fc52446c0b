"""MLflow: runs, artifacts and everything else that talks to a tracking store."""
