"""What `doctor` reckons of each node: the memory it may have, the trials it would hold, the images they load there."""

from __future__ import annotations

import sys

import pytest

from study.cluster import probes
from study.cluster.doctor import _at_once
from study.cluster.preflight import trials_at_once
from study.cluster.resources import Node
from study.cluster.shared_files import unlabelled
from study.config.schema import parse_config


def study(**sections):
    return parse_config({"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}, **sections})


def limits(tmp_path, groups: str, files: dict[str, int | str]):
    proc, cgroups = tmp_path / "proc", tmp_path / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text("MemTotal:  64000000 kB\nMemFree: 1 kB\nMemAvailable:  50000000 kB\n")
    (proc / "self" / "cgroup").write_text(groups)
    for name, content in files.items():
        (cgroups / name).parent.mkdir(parents=True, exist_ok=True)
        (cgroups / name).write_text(f"{content}\n")
    return probes.memory(proc=proc, cgroups=cgroups)


MACHINE = {"total": 64_000_000 * 1024, "available": 50_000_000 * 1024}
POD = {"memory.max": 32 * 10**9, "memory.current": 5 * 10**9, "memory.stat": "anon 1\ninactive_file 2000000000"}
V1 = {
    "memory/memory.limit_in_bytes": 8 * 10**9,
    "memory/memory.usage_in_bytes": 3 * 10**9,
    "memory/memory.stat": "cache 1\ntotal_inactive_file 1000000000",
}


@pytest.mark.parametrize(
    ("groups", "files", "expected"),
    [
        ("0::/\n", {}, MACHINE),
        # what the kernel would drop of its file cache is there for a trial
        ("0::/\n", POD, {"total": 32 * 10**9, "available": 29 * 10**9}),
        ("0::/\n", {**POD, "memory.max": "max"}, MACHINE),
        # a job's limit holds for its steps, which have none of their own
        (
            "0::/job_7/step_0\n",
            {
                **{f"job_7/{name}": content for name, content in POD.items()},
                **{f"job_7/step_0/{name}": content for name, content in {**POD, "memory.max": "max"}.items()},
            },
            {"total": 32 * 10**9, "available": 29 * 10**9},
        ),
        # a container sees its own group at the root, under a path that only its machine knows
        ("9:cpu:/x\n4:memory:/docker/0123\n", V1, {"total": 8 * 10**9, "available": 6 * 10**9}),
        ("4:memory:/\n", {**V1, "memory/memory.limit_in_bytes": 9223372036854771712}, MACHINE),
    ],
)
def test_memory_is_what_the_container_or_job_may_have(tmp_path, groups, files, expected):
    assert limits(tmp_path, groups, files) == expected


NODES = [
    Node("h", "head", {"CPU": 0.0}),
    Node("a", "A", {"CPU": 96.0, "GPU": 8.0}),
    Node("b", "B", {"CPU": 4.0}),
]


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        ({}, [0, 96, 4]),
        ({"gpus": 1}, [0, 8, 0]),
        ({"gpus": 0.5}, [0, 16, 0]),
        ({"gpus": "auto"}, [0, 8, 0]),
        ({"max_concurrent": 6}, [0, 6, 4]),
    ],
)
def test_memory_is_held_against_the_trials_a_node_really_gets(resources, expected):
    config = study(resources=resources)
    assert [_at_once(config, node, NODES) for node in NODES] == expected
    assert trials_at_once(config, NODES).ok


def test_gpus_auto_asks_for_none_where_no_node_has_any():
    config = study(resources={"gpus": "auto"})
    assert trials_at_once(config, NODES[2:]).text == "4 trials fit at once"
    assert "`auto` is measured at launch" in trials_at_once(config, NODES).text


def pooled(pool):
    search = {"space": "core", "methods": ["robust_self_training"], "fixed": {"robust_self_training.pool": str(pool)}}
    return study(search=search)


def test_a_node_without_the_unlabelled_images_is_found_before_a_study_starts(tmp_path, monkeypatch):
    pool = tmp_path / "pool.parquet"
    pool.write_bytes(b"")

    def on_nodes(function, nodes, *, arguments):
        answers = {}
        for node in nodes:
            given = arguments(node)
            names = [name.replace("pool", "none") if node.id == "b" else name for name in given["names"]]
            answers[node.id] = function(**{**given, "names": names})
        return answers

    monkeypatch.setattr("study.cluster.connection.on_nodes", on_nodes)
    config = pooled(pool)
    found = list(unlabelled(config, NODES))
    # the head holds no trials, so it needs no images
    assert [(one.node, one.ok) for one in found] == [("A", True), ("B", False)]
    assert "put them on every node's" in found[1].text
    assert found[1].text.startswith("`pool`")
    assert all(one.ok for one in [*unlabelled(config, NODES[:2]), *unlabelled(pooled("digits"), NODES)])
    assert (
        list(unlabelled(parse_config({"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}}), NODES))
        == []
    )


def test_without_our_code_a_node_still_knows_whether_a_path_is_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "trainables.data", None)
    names = [str(tmp_path), str(tmp_path / "none"), "digits"]
    assert probes.lacking_images(names=names, root=None) == [f"`pool`: {tmp_path}/none is not there"]
