"""Figures of trials: the front, its interactive form, scatter plots, parallel coordinates."""
