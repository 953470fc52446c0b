"""One driver process: Ray Tune runs the trials; each is written to disk, then reported to Optuna and MLflow."""
