"""Define-by-run search spaces, drawn from the ranges that methods and specs declare."""

from trainables.registry import Registry, takes

SPACES = Registry("search space", {"core": "search_spaces.core:core"}, check=takes(0, "methods", "evaluation"))
