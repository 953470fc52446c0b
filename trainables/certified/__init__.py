"""Certified bounds of small networks: what no attack and no estimate can be beyond.

`layers` and `translation` read a network, `activations` and `jacobian` bound it, `certificate` says what follows.
"""

from trainables.certified.certificate import Certificate, certify, interval_bounds
from trainables.certified.translation import UnsupportedModuleError

__all__ = ["Certificate", "UnsupportedModuleError", "certify", "interval_bounds"]
