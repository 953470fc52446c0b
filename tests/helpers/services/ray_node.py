"""`ray start`, but a node that is told to be at 127.0.0.1 stays there, so that several share this machine's loopback.

Ray itself replaces a loopback address by the machine's outward one, where everybody could reach the node.
"""

from __future__ import annotations

from ray._private import services
from ray.scripts.scripts import main

services.resolve_ip_for_localhost = lambda host: host

if __name__ == "__main__":
    main()
