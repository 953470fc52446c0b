"""A study's Optuna storage on a PostgreSQL server, with the password from the environment only."""

from __future__ import annotations

import optuna
import pytest
from helpers.services.postgres import PASSWORD, postgres, programs

from study.config.loading import load_config
from study.errors import UsageError
from study.search.optuna_study import open_search
from study.search.storage import check_storage

pytestmark = pytest.mark.postgres


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    if programs() is None:
        pytest.skip("no PostgreSQL server is installed")
    pytest.importorskip("psycopg", reason="the extra `postgres` is not installed")
    folder = tmp_path_factory.mktemp("postgres")
    # pytest's folders are closed to other accounts, and the server runs under its own
    for parent in (folder, *folder.parents[:2]):
        parent.chmod(0o755)
    with postgres(folder / "server") as running:
        yield running


def test_a_study_is_stored_on_a_postgresql_server(server, tmp_path, monkeypatch):
    url = server.create("studies")
    config = load_config("quickstart", assignments=[f"storage.optuna={url}"])
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    check_storage(config, tmp_path, is_new=True)
    study = open_search(config, tmp_path)
    study.tell(study.ask(), [0.9, 0.4])
    assert [trial.values for trial in open_search(config, tmp_path).trials] == [[0.9, 0.4]]
    assert server.sql("studies", "select study_name from studies") == "quickstart"
    assert not list(tmp_path.iterdir())
    with pytest.raises(UsageError, match="already has a study 'quickstart'"):
        check_storage(config, tmp_path / "other", is_new=True)
    assert optuna.storages.get_storage(url.replace("://", "+psycopg://")).get_all_studies()


@pytest.mark.parametrize(
    ("password", "database", "message"),
    [
        (None, "postgres", "password.*PGPASSWORD or ~/.pgpass"),
        ("wrong", "postgres", "password"),
        (PASSWORD, "no", "exist"),
    ],
)
def test_a_server_that_refuses_is_one_clear_line(server, tmp_path, monkeypatch, password, database, message):
    monkeypatch.setenv("PGPASSFILE", str(tmp_path / "none"))
    monkeypatch.delenv("PGPASSWORD", raising=False)
    if password:
        monkeypatch.setenv("PGPASSWORD", password)
    config = load_config("quickstart", assignments=[f"storage.optuna={server.url(database)}"])
    with pytest.raises(UsageError, match=f"cannot be used: .*{message}") as caught:
        check_storage(config, tmp_path, is_new=True)
    assert "\n" not in str(caught.value)
