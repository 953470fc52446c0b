"""Optuna: the stored study, samplers, the Tune searcher, the time budget, importances."""
