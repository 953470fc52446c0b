"""Bad input: one clear line each on stderr, exit code 2, before Ray starts."""

from __future__ import annotations

import shutil
import sys

import pytest

from study.cli import main


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ROBUST_STUDY_DATA", raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])

    def run(*words):
        loaded = "ray" in sys.modules
        monkeypatch.setattr(sys, "argv", ["robust-study", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        assert ("ray" in sys.modules) == loaded
        captured = capsys.readouterr()
        return caught.value.code, captured.out, captured.err

    return run


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["launch", "quickstrat"], "unknown preset 'quickstrat' (did you mean quickstart?)"),
        (
            ["launch", "quickstart", "--set", "search.num_trial=4"],
            "unknown key `search.num_trial` (did you mean num_trials?)",
        ),
        (
            ["launch", "quickstart", "--set", "search.methods=[tradez]"],
            "unknown method 'tradez' (did you mean trades?)",
        ),
        (["launch", "quickstart", "--set", "dataset.name=digitz"], "unknown data set 'digitz' (did you mean digits?)"),
        (["launch", "quickstart", "--set", "model.name=cnn9"], "unknown model 'cnn9'"),
        (["launch", "quickstart", "--set", "evaluation.epsilon=8"], "must be in [0, 1], got 8 (did you mean 8/255?)"),
        (
            ["launch", "quickstart", "--set", "search.num_trials=0"],
            "`search.num_trials`: input should be greater than or",
        ),
        (["launch", "quickstart", "--set", "model.name=cnn2"], "cnn2"),
        (["launch", "quickstart", "--set", "dataset.train_size=9999"], "`dataset.train_size`"),
        (["launch", "quickstart", "--set", "dataset.name=no/such"], "folder no/such of Parquet files does not exist"),
        (
            ["launch", "quickstart", "--set", "resources.cpus=9999"],
            "`resources.cpus` is 9999 for each trial and this",
        ),
        (["launch", "quickstart", "--address", "127.0.0.1:1"], "no Ray head answers at 127.0.0.1:1"),
        (["launch", "quickstart", "--address", "somewhere"], "`cluster.address` must be auto or HOST:PORT"),
        (["launch", "mnist", "--data-root", "nowhere"], "`dataset.root` must be an existing folder"),
        (["launch", "quickstart", "--dry-run", "--set", "training.lr=-1"], "`training.lr` must be in [0, 100], got -1"),
        (
            ["launch", "quickstart", "--set", "storage.checkpoints=/proc/nowhere"],
            "`storage.checkpoints`: this machine cannot write to /proc (",
        ),
        (
            ["launch", "quickstart", "--dry-run", "--set", "storage.checkpoints=/dev/null"],
            "`storage.checkpoints`: this machine cannot write to /dev/null (there is no such folder)",
        ),
        (["launch", "quickstart", "--out", "/proc/nowhere"], "--out: this machine cannot write to /proc ("),
        (["resume", "nowhere"], "study folder nowhere does not exist"),
        (["status", "."], "is not a study folder: it has no study.yaml"),
        (["pareto", "nowhere"], "study folder nowhere does not exist"),
        (["ui"], "mlflow.db does not exist: launch a study here first"),
        (["train", "nowhere.yaml"], "nowhere.yaml is neither a study folder nor a spec file"),
    ],
)
def test_bad_input_is_one_line(command, words, line):
    code, out, err = command(*words)
    assert code == 2
    assert out == ""
    assert line in err
    assert err.count("\n") == 1


def test_a_study_that_exists_is_never_overwritten(command, tmp_path):
    folder = tmp_path / "studies" / "quickstart"
    folder.mkdir(parents=True)
    (folder / "study.yaml").write_text("kept")
    code, _, err = command("launch", "quickstart")
    assert code == 2
    assert "robust-study resume studies/quickstart" in err
    assert "--set name=NEW_NAME" in err
    assert (folder / "study.yaml").read_text() == "kept"


def test_results_of_another_schema_are_refused_before_anything_starts(command, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    from study.config.loading import load_config
    from study.directory.layout import create

    folder = create(load_config("quickstart"), tmp_path)
    (folder / "results").mkdir()
    pq.write_table(pa.table({"a": [1]}), folder / "results" / "00000.parquet")
    for words in (["resume", folder], ["status", folder], ["pareto", folder]):
        code, _, err = command(*words)
        assert code == 2
        assert "00000.parquet" in err
        assert err.count("\n") == 1
    shutil.rmtree(folder)


def test_unknown_options_and_commands_exit_with_2(command):
    assert command("launch")[0] == 2
    assert command("lunch")[0] == 2
    assert command("launch", "quickstart", "--dryrun")[0] == 2


@pytest.mark.parametrize("kind", ["methods", "datasets", "models", "spaces", "attacks", "presets", "schedulers"])
def test_list_names_everything_registered(monkeypatch, capsys, kind):
    from search_spaces import SPACES
    from study.commands.catalogue import show
    from study.config.early_stopping import SCHEDULERS
    from study.config.loading import presets
    from trainables.attacks import ATTACKS
    from trainables.data import DATASETS
    from trainables.methods import METHODS
    from trainables.models import MODELS

    show(kind)
    out = capsys.readouterr().out
    known = {
        "methods": METHODS, "datasets": DATASETS, "models": MODELS, "spaces": SPACES, "attacks": ATTACKS,
        "presets": presets(), "schedulers": SCHEDULERS,
    }  # fmt: skip
    for name in known[kind]:
        assert name in out
    said = {"datasets": "28x28 grey, 10 classes; 60,000", "models": "312,202", "attacks": "restarts"}
    assert said.get(kind, "") in out


def test_list_of_an_unknown_kind_is_one_line(command):
    code, _, err = command("list", "modles")
    assert code == 2
    assert "got 'modles' (did you mean models?)" in err
    assert err.count("\n") == 1
