"""Exact distances between classes."""
