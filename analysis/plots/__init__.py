"""Figures: their data, their drawing, and the writers that make files."""
