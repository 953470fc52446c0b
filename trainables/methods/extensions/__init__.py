"""Training methods that Yang et al. 2020 did not compare; each is one file of this package."""
