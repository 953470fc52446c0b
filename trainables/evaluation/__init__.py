"""Measuring a network: accuracies, local Lipschitzness, sanity flags."""
