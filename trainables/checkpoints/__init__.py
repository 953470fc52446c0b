"""Files of trials on a path or in an object store, the checkpoint format, weights into a network."""
