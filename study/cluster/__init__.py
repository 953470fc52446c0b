"""Studies on a Ray cluster: what a trial asks for, what nodes have, what they must share, templates to start one."""
