"""Figures: functions that draw into an axes and return it, and writers that make files."""
