"""The training loop, its parts, pseudo-labels, and the Tune class around it."""
