"""A study's folder on disk: where files lie, rows read from it, the driver lock, the seed plan, disk space."""
