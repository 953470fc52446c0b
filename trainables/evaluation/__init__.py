"""Measurements of a network: accuracies, local Lipschitzness, sanity flags."""
