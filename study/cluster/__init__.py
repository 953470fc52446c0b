"""Studies on a Ray cluster: resources, connection, checks of its machines, and templates to start one."""
