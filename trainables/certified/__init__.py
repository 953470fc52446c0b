"""Certified bounds for small networks, which no attack and no estimate can exceed."""
