"""One request for each trial: what Ray reserves, whether nodes have it, and which addresses are valid."""

from __future__ import annotations

import socket

import pytest

from study.cluster.resources import Node, bundle, check_satisfiable, slots
from study.config.schema import ResourcesConfig, parse_config
from study.errors import UsageError

SMALL = Node("a", "10.0.0.1", {"CPU": 8.0, "memory": 1e9, "node:10.0.0.1": 1.0})
GPU = Node("b", "10.0.0.2", {"CPU": 16.0, "GPU": 2.0, "accelerator_type:A100": 1.0, "licence": 3.0})

CONFIG = {"name": "s", "dataset": {"name": "digits"}, "search": {"space": "core"}}

STUDY = parse_config(CONFIG)


def parsed(**sections: dict) -> ResourcesConfig:
    return parse_config({**CONFIG, **sections}).resources


@pytest.mark.parametrize(
    ("resources", "gpus", "expected", "fits"),
    [
        ({}, 0, {"CPU": 1.0}, 24),
        ({"cpus": 3}, 0, {"CPU": 3.0}, 2 + 5),
        ({"gpus": 0.25}, 0.25, {"CPU": 1.0, "GPU": 0.25}, 8),
        # a share never spans two devices: 0.3 fits three times on each
        ({"gpus": 0.3}, 0.3, {"CPU": 1.0, "GPU": 0.3}, 6),
        ({"custom": {"licence": 1}}, 0, {"CPU": 1.0, "licence": 1.0}, 3),
        ({"gpus": 1, "accelerator_type": "A100"}, 1, {"CPU": 1.0, "GPU": 1.0, "accelerator_type:A100": 0.001}, 2),
    ],
)
def test_every_trial_reserves_the_same_and_the_nodes_hold_so_many(resources, gpus, expected, fits):
    request = bundle(parsed(resources=resources), gpus=gpus)
    assert request == expected
    assert slots(request, [SMALL, GPU]) == fits
    check_satisfiable(request, [SMALL, GPU], config=STUDY)


def test_shares_are_counted_as_ray_counts_them_despite_rounding():
    for parts in range(1, 21):
        assert slots({"CPU": 0.01, "GPU": 1 / parts}, [GPU]) == 2 * parts


@pytest.mark.parametrize(
    "resources",
    [{"cpus": 17}, {"gpus": 4}, {"gpus": 1, "accelerator_type": "H100"}, {"custom": {"licence": 4}}, {"cpus": 24}],
)
def test_a_request_that_no_node_can_hold_is_refused_with_what_nodes_have(resources):
    config = parsed(resources=resources)
    with pytest.raises(UsageError, match=r"no node has that; nodes have: 10\.0\.0\.1: 8 cpus, 0 gpus; 10\.0\.0\.2: 16"):
        check_satisfiable(bundle(config, gpus=config.gpus), [SMALL, GPU], config=STUDY)


@pytest.mark.parametrize(
    ("section", "values", "message"),
    [
        ("resources", {"gpus": -1}, "`resources.gpus` must be auto or a number, 0 or more, got -1"),
        ("resources", {"gpus": "all"}, "`resources.gpus` must be auto or a number, 0 or more, got 'all'"),
        ("resources", {"gpus": 1.5}, "`resources.gpus` must be a fraction up to 1 or a whole number, got 1.5"),
        ("resources", {"custom": {"GPU": 1}}, "`resources.custom` must name the cluster's own resources, got 'GPU'"),
        ("resources", {"accelerator_type": "A100"}, "`resources.accelerator_type` 'A100' needs `gpus` above 0, got 0"),
        ("cluster", {"address": "ray://head:10001"}, "ray job submit --address http://HEAD:8265"),
        ("cluster", {"address": "head"}, "`cluster.address` must be auto or HOST:PORT of the cluster's head, got"),
        ("cluster", {"address": "head:0"}, "`cluster.address` must be auto or HOST:PORT of the cluster's head, got"),
        (
            "storage",
            {"checkpoints": "hdfs://a/b"},
            "must be a path, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX, got 'hdfs",
        ),
        ("storage", {"checkpoints": "s3://id:key@bucket/a"}, "must hold no credentials, got some in 's3://...'"),
        (
            "storage",
            {"checkpoints": "s3://bucket/a?secret_key=x"},
            "must hold no credentials, got some in 's3://...'",
        ),
    ],
)
def test_invalid_resources_and_addresses_get_one_line_each(section, values, message):
    with pytest.raises(UsageError) as caught:
        parse_config({**CONFIG, section: values})
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0]


def test_auto_and_a_complete_address_are_accepted():
    config = parse_config({**CONFIG, "resources": {"gpus": "auto"}, "cluster": {"address": "10.0.0.1:6379"}})
    assert config.resources.gpus == "auto"
    assert parse_config(config.to_dict()) == config


def test_a_missing_cluster_is_reported_in_one_line(monkeypatch):
    import ray

    from study.cluster.connection import connected

    def init(**options):
        raise ConnectionError("Could not find any running Ray instance.\nPlease specify the one to connect to.")

    monkeypatch.setattr("study.cluster.connection._require_node", lambda address: None)
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(
        UsageError, match="no Ray cluster can be used at auto: Could not find any running Ray instance"
    ) as caught:
        with connected("auto"):
            pass
    assert "\n" not in str(caught.value)


def test_a_port_that_is_not_rays_is_told(monkeypatch):
    from ray.exceptions import RpcError

    from study.cluster.connection import connected

    def client(**options):
        raise RpcError("Timed out while waiting for GCS to become available.")

    monkeypatch.setattr("ray._raylet.GcsClient", client)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(UsageError, match=f"no Ray head answers at {address}, where.*6379 by default"):
            with connected(address):
                pass


def test_an_address_where_nothing_listens_ends_a_dry_run_with_one_line(command, tmp_path):
    code, out, err = command("launch", "quickstart", "--dry-run", "--address", "127.0.0.1:1")
    assert (code, out) == (2, "")
    assert err.startswith("robust-study: no Ray head answers at 127.0.0.1:1 (")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())
