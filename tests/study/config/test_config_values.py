"""Tracking URIs: which are accepted, which are refused, and that no secret is repeated."""

from __future__ import annotations

from pathlib import Path

import pytest

from study.config.paths import resolved
from study.config.schema import parse_config
from study.errors import UsageError

SMALL = {"name": "small", "dataset": {"name": "digits"}, "search": {"space": "core"}}
SECRET = "hunter2-not-to-be-shown"


def config(uri):
    return parse_config({**SMALL, "tracking": {"uri": uri}})


@pytest.mark.parametrize(
    "uri",
    [
        "http://tracking.example:5000",
        "https://tracking.example/mlflow",
        "sqlite:////srv/mlflow.db",
        "postgresql://mlflow@db.example/mlflow",
        "postgresql://mlflow@db.example/mlflow?sslmode=require",
    ],
)
def test_uris_of_servers_and_databases_are_unchanged(uri):
    assert resolved(config(uri)).tracking.uri == uri


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        (f"https://user:{SECRET}@tracking.example", "must not hold a user name, password or token"),
        (f"https://{SECRET}@tracking.example", "must not hold a user name, password or token"),
        (f"https://tracking.example/?token={SECRET}", "must not hold a user name, password or token"),
        (f"postgresql+psycopg://user:{SECRET}@db.example/mlflow", "must not hold a user name, password or token"),
        (f"postgresql://db.example/mlflow?password={SECRET}", "must not hold a user name, password or token"),
        (f"mysql://db.example/mlflow?ssl=1&auth_TOKEN={SECRET}", "must not hold a user name, password or token"),
        (f"https://user:pass/{SECRET}@tracking.example", "must not hold a user name, password or token"),
        (f"postgresql://user:pass/{SECRET}@db.example/mlflow", "must not hold a user name, password or token"),
        (f"https://tracking.example/#token={SECRET}", "must not hold a user name, password or token"),
        (f"postgresql://db.example/mlflow?PASSWORD={SECRET}", "must not hold a user name, password or token"),
        (f"mysql://db.example/mlflow?x=1;Api_Key={SECRET}", "must not hold a user name, password or token"),
        ("./mlruns", "must begin with one of"),
        ("file:///srv/mlruns", "must begin with one of"),
        ("databricks", "must begin with one of"),
        ("sqlite://mlflow.db", "must be sqlite:/// and a path"),
        ("http://:5000", "must name a host"),
    ],
)
def test_a_uri_with_a_secret_or_of_no_store_is_refused_without_being_repeated(uri, message):
    with pytest.raises(UsageError) as caught:
        config(uri)
    (problem,) = caught.value.problems
    assert problem.startswith(f"`tracking.uri` {message}")
    assert SECRET not in problem
    if SECRET in uri:
        assert "MLFLOW_TRACKING_PASSWORD" in problem


def test_a_database_file_does_not_depend_on_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolved(config("sqlite:///own.db")).tracking.uri == f"sqlite:///{tmp_path / 'own.db'}"
    assert resolved(config(None)).tracking.uri == f"sqlite:///{Path('mlflow.db').resolve()}"


@pytest.mark.parametrize(
    ("key", "place"),
    [
        ("checkpoints", f"s3://KEY:a/{SECRET}@bucket/prefix"),
        ("checkpoints", f"s3://{SECRET}@bucket/prefix"),
        ("checkpoints", f"s3://bucket/prefix#{SECRET}"),
        ("checkpoints", f"gs://bucket/prefix?X-Amz-Signature={SECRET}"),
        ("checkpoints", f"s3://bucket/prefix?AWSAccessKeyId={SECRET}"),
        ("checkpoints", f"s3://bucket/prefix?%74oken={SECRET}"),
        ("checkpoints", f"https://user:{SECRET}@bucket/prefix"),
        ("checkpoints", f"s3:/KEY:{SECRET}@bucket"),
        ("optuna", f"postgresql://user:pass/{SECRET}@db.example/optuna"),
        ("optuna", f"postgresql://user:{SECRET}@db.example/optuna"),
        ("optuna", f"postgresql://db.example/optuna?PASSWORD={SECRET}"),
        ("optuna", f"postgresql://db.example/optuna?passphrase={SECRET}"),
        ("optuna", f"postgresql://db.example/optuna#{SECRET}"),
        ("optuna", f"user:{SECRET}@db.example/optuna"),
        ("optuna", f"mysql://user:{SECRET}@db.example/optuna"),
    ],
)
def test_a_place_of_storage_with_a_secret_is_refused_without_being_repeated(key, place):
    with pytest.raises(UsageError) as caught:
        parse_config({**SMALL, "storage": {key: place}})
    (problem,) = caught.value.problems
    assert problem.startswith(f"`storage.{key}`")
    assert SECRET not in problem


def test_a_user_name_alone_and_the_names_of_files_are_no_secret():
    for storage in ("postgresql://user@db.example:5432/optuna", "postgresql://db.example/optuna?passfile=/p&sslkey=/k"):
        assert parse_config({**SMALL, "storage": {"optuna": storage}}).storage.optuna == storage
    assert resolved(config("sqlite:////data/a:b@c/mlflow.db")).tracking.uri == "sqlite:////data/a:b@c/mlflow.db"
