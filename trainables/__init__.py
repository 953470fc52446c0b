"""Data sets, models, attacks, training methods, measurements, the training loop, and its Ray Tune class."""
