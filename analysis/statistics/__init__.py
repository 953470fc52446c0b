"""Intervals, the model of the front, associations, interventions, hyperparameter columns."""
