"""One driver process: Ray Tune runs the trials; rows, Optuna and MLflow learn of each."""
