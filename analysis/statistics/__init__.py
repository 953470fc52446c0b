"""Intervals, the model of the front, associations, hyperparameter columns, theorem radius."""
