"""Trials' files on a path or in an object store, the checkpoint format, and loading weights into a network."""
