"""`ray start` that accepts 127.0.0.1 as a node's address, so that several nodes run on this machine's loopback.

Ray itself replaces a loopback address with the machine's external one, at which other machines can reach the node.
"""

from __future__ import annotations

from ray._private import services
from ray.scripts.scripts import main

services.resolve_ip_for_localhost = lambda host: host

if __name__ == "__main__":
    main()
