"""Define-by-run search spaces that draw from the bounds the methods declare."""

from trainables.registry import Registry

SPACES = Registry("search space", {"core": "search_spaces.core:core"})
