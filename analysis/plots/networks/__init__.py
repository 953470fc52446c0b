"""Figures of single networks and data sets: accuracy over radius, members, separation, test values."""
