"""Whether nodes have the unlabelled images that trials load there by name; the data set comes from the driver."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from study.cluster import checks, probes
from study.cluster.checks import Finding
from study.cluster.request import Node, largest_bundle, slots
from study.config import StudyConfig
from study.errors import UsageError
from study.folder import pools


def check_unlabelled(config: StudyConfig, nodes: Sequence[Node], /) -> None:
    """Check, on the cluster this process is connected to, that every node that holds trials has their pools.

    Raises:
        UsageError: Some node has not.
    """
    for finding in unlabelled(config, nodes):
        if not finding.ok:
            raise UsageError(f"node {finding.node}: {finding.said}")


def unlabelled(config: StudyConfig, nodes: Sequence[Node], /) -> Iterator[Finding]:
    """Yield a finding for each node that holds trials of a study whose methods use unlabelled images, else nothing."""
    named = pools(config)
    wanted = largest_bundle(config.resources, nodes)
    holding = [node for node in nodes if slots(wanted, [node])]
    if not named or not holding:
        return
    from study.cluster.session import on_nodes

    arguments = {"names": named, "root": config.dataset.root}
    answers = on_nodes(probes.lacking_images, holding, arguments=lambda node: arguments)
    for node in holding:
        answer = answers[node.id]
        lacking = [str(answer)] if isinstance(answer, Exception) else answer
        if lacking:
            said = f"{'; '.join(lacking)}: workers load these images from their own disk, so put them on every node's"
            yield checks.wrong("data", node.name, said)
        else:
            yield checks.fine("data", node.name, f"has the unlabelled images {', '.join(named)}")
