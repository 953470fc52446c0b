"""The science: data, models, attacks, methods, measures, the training loop, and the Ray Tune class around it."""
