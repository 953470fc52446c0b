"""Certified bounds of small networks: what no attack and no estimate can be beyond."""
