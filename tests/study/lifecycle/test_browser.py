"""MLflow's UI in a real browser: table, filter, charts and front; and optuna-dashboard."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from helpers.services.browser import CHROMIUM, page
from helpers.services.mlflow_server import MlflowServer
from helpers.services.ports import free_port
from helpers.services.postgres import PASSWORD, programs, temporary_postgres
from helpers.studies.plain_study import run_plain
from mlflow import MlflowClient

from analysis.data.results import read_results
from analysis.fronts.front import front_of

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed"),
    pytest.mark.parametrize("store", ["file", "PostgreSQL"], indirect=True, scope="module"),
]

CONFIG = """
name: seen
dataset: {name: digits, train_size: 128}
model: {name: mlp}
training: {epochs: 3, batch_size: 64, attack_steps: 2}
evaluation: {epsilon: 0.1, steps: 2, examples: 64, every: 1, lipschitz: {steps: 2, examples: 8}}
search: {space: core, num_trials: 6, methods: [natural, trades]}
tracking: {uri: URI, models: 1}
"""
START_SECONDS = 600

# from left to right, which is not their order in the document
HEADINGS = """[...document.querySelectorAll('.ag-header-cell')]
    .sort((a, b) => a.getBoundingClientRect().x - b.getBoundingClientRect().x).map(e => e.innerText.trim())"""
NAMED = [
    "front_place", "method", "param.dropout", "strength", "train_epsilon", "val_clean_accuracy",
    "val_robust_accuracy", "val_lipschitz_mean",
]  # fmt: skip


@pytest.fixture(scope="module")
def store(request, tmp_path_factory):
    """The tracking URI: a file's, or that of a server on PostgreSQL."""
    pytest.importorskip("playwright", reason="needs the extra `browser`")
    folder = tmp_path_factory.mktemp("store")
    if request.param == "file":
        yield f"sqlite:///{folder}/mlflow.db"
        return
    pytest.importorskip("psycopg", reason="needs the extra `postgres`")
    if programs() is None:
        pytest.skip("no PostgreSQL server is installed")
    with temporary_postgres() as database:
        database.create("mlflow")
        backend, environment = database.url("mlflow", driver="psycopg"), {"PGPASSWORD": PASSWORD}
        with MlflowServer(folder, backend=backend, port=free_port(), environment=environment) as server:
            yield server.uri


@pytest.fixture(scope="module")
def study(store, tmp_path_factory):
    """A study's folder, and the address that `robust-study ui` prints for it."""
    root = tmp_path_factory.mktemp("seen")
    (root / "seen.yaml").write_text(CONFIG.replace("URI", store))
    folder = run_plain(root / "seen.yaml", root / "studies")
    log = root / "ui.log"
    with log.open("wb") as file:
        ui = subprocess.Popen([sys.executable, "-m", "study", "ui", str(folder)], cwd=root, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + START_SECONDS
        while not (found := re.search(r"(http://127\.0\.0\.1:\d+)/#/experiments/(\d+)/runs/(\w+)", log.read_text())):
            assert ui.poll() in (None, 0), log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.5)
        yield folder, *found.groups()
    finally:
        ui.send_signal(signal.SIGINT)
        assert ui.wait(timeout=60) == 0
    assert ("stopped" in log.read_text()) is store.startswith("sqlite")


def show(opened, base: str, path: str, query: str = "") -> None:
    opened.goto(f"{base}/#/experiments/{path}?workflowType=machine_learning{query}", wait_until="domcontentloaded")


def names_of(table) -> list[str]:
    """The names of the trials' runs."""
    return [f"{row['trial_id']} {row['method']}" for row in table.to_pylist()]


def unfold(opened) -> None:
    """Press the plus sign before the study's name; MLflow lists the parent of the runs that a filter selects."""
    opened.get_by_text("seen", exact=True).wait_for()
    opened.locator(".ag-row").first.locator("button").first.click()


def test_the_table_shows_the_study_with_its_trials_under_it(study):
    folder, base, experiment, _ = study
    names = names_of(read_results(folder))
    assert len(names) == 6
    with page() as opened:
        show(opened, base, f"{experiment}/runs")
        opened.get_by_text("seen", exact=True).wait_for()
        assert opened.get_by_text(names[3], exact=True).count() == 0
        unfold(opened)
        for name in names:
            opened.get_by_text(name, exact=True).wait_for()
        assert opened.get_by_text("7 matching runs").count() == 1


def test_a_filter_by_tag_selects_the_front(study):
    folder, base, experiment, _ = study
    front = names_of(front_of(read_results(folder)))
    with page() as opened:
        show(opened, base, f"{experiment}/runs", "&searchFilter=tags.on_front%20%3D%20'true'")
        unfold(opened)
        for name in front:
            opened.get_by_text(name, exact=True).wait_for()
        shown = opened.locator("a", has_text=re.compile(r"^\d{5} \w+$"))
        assert sorted(shown.all_inner_texts()) == sorted(front)


def test_a_trials_charts_are_drawn(study, store):
    _, base, experiment, _ = study
    client = MlflowClient(store)
    run_id = client.search_runs([experiment], "tags.method = 'trades'")[0].info.run_id
    with page() as opened:
        show(opened, base, f"{experiment}/runs/{run_id}/model-metrics")
        # charts draw when they come into view, in the order of their names
        opened.get_by_placeholder("Search metric charts").fill("^val_")
        opened.get_by_text("val_clean_accuracy", exact=True).first.wait_for()
        opened.locator(".js-plotly-plot .lines path, .js-plotly-plot .bars path").first.wait_for(state="attached")
        assert opened.locator(".js-plotly-plot").count() >= 3


def test_the_front_is_displayed_on_the_studys_own_run(study, tmp_path):
    _, base, experiment, parent = study
    with page() as opened:
        show(opened, base, f"{experiment}/runs/{parent}/artifacts")
        opened.get_by_text("figures", exact=True).first.click()
        opened.get_by_text("pareto.png", exact=True).first.click()
        opened.wait_for_function("[...document.images].some(image => image.naturalWidth > 500)")
        opened.screenshot(path=tmp_path / "front.png")
    assert Path(tmp_path / "front.png").stat().st_size > 20_000


def test_optuna_dashboard_shows_the_same_study(study):
    folder, *_ = study
    pytest.importorskip("optuna_dashboard", reason="needs the extra `dashboard`")
    port = free_port()
    code = "from optuna_dashboard._cli import main; main()"
    command = [sys.executable, "-c", code, f"sqlite:///{folder}/optuna.db", "--port", str(port)]
    server = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        (summary,) = answer_of(f"http://127.0.0.1:{port}/api/studies")["study_summaries"]
        assert summary["study_name"] == "seen"
        trials = answer_of(f"http://127.0.0.1:{port}/api/studies/{summary['study_id']}?after=0")["trials"]
        rows = read_results(folder).to_pylist()
        expected = [[row["val_clean_accuracy"], row["val_robust_accuracy"]] for row in rows]
        assert [trial["values"] for trial in trials] == expected
        with page() as opened:
            opened.goto(f"http://127.0.0.1:{port}/dashboard")
            opened.get_by_text("seen").first.wait_for()
    finally:
        server.terminate()
        server.wait(30)


def test_the_studys_run_describes_it_and_links_to_its_charts(study):
    _, base, experiment, parent = study
    with page(width=1800) as opened:
        show(opened, base, f"{experiment}/runs/{parent}")
        opened.get_by_text("Front on validation").wait_for(state="attached")
        with opened.context.expect_page() as new:
            opened.get_by_role("link", name="charts", exact=True).click()
        new.value.locator(".js-plotly-plot").first.wait_for()


@pytest.mark.parametrize("added", [0, 2])
def test_the_links_of_ui_show_all_trials_and_draw_their_charts(study, added):
    folder, *_ = study
    if added:  # last, as the other tests count six trials
        command = [sys.executable, "-m", "study", "resume", str(folder), "--add-trials", str(added)]
        subprocess.run(command, cwd=folder.parents[1], check=True, timeout=START_SECONDS)
    rows, log = read_results(folder), (folder.parents[1] / "ui.log").read_text()
    table, charts = (re.search(rf"{name}: +(http\S+)", log)[1] for name in ("table", "charts"))
    front = names_of(front_of(rows))
    with page(width=2600, height=1200) as opened:
        opened.goto(table, wait_until="domcontentloaded")
        for name in (*names_of(rows), "seen"):
            opened.get_by_text(name, exact=True).wait_for()
        shown = opened.locator(".ag-pinned-left-cols-container [col-id*='Run Name'] a").all_inner_texts()
        assert len(shown) == 6 + added + 1
        assert shown[: len(front) + 1] == [*front, "seen"]
        headings = opened.evaluate(HEADINGS)
        assert [name for name in headings if name in NAMED] == NAMED
    with page(width=1800, height=1300) as opened:
        opened.goto(charts, wait_until="domcontentloaded")
        for point in range(2):
            chart = opened.locator(".js-plotly-plot").nth(point)
            chart.locator(".point").nth(len(rows) - 1).wait_for(state="attached")
        # a point for each trial, on the line of the study's own run
        line = opened.locator(".js-plotly-plot").nth(2)
        line.locator(".scatterlayer .point").nth(len(rows) - 1).wait_for(state="attached")
        opened.get_by_text("Parallel Coordinates").wait_for()
        opened.locator(".parcoords, canvas").first.wait_for(state="attached")


def answer_of(url):
    deadline = time.monotonic() + START_SECONDS
    while True:
        try:
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
