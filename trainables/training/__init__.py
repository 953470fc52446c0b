"""The training loop and its parts, pseudo-labels, and the Ray Tune class."""
