"""A user's own objects before a study starts: each kind that is wrong in one of four ways is one line."""

from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
from helpers.studies.in_process import robust_study

from study.cluster.node_survey import study_packages
from study.cluster.preflight import check_data, check_model
from study.cluster.start import new_start
from study.config.loading import load_config

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "docs" / "extending"
OBJECTS = {
    "method": "own_method:SmoothedLabels",
    "model": "own_model:one_hidden_layer",
    "data set": "own_data:halves",
    "attack": "own_attack:sign_steps",
    "search space": "own_space:learning_rates",
}
MODULES = {kind: name.partition(":")[0] for kind, name in OBJECTS.items()}

# What each kind is called with before the start.
GIVEN = {
    "method": ", called with a step of 2 images (2, 1, 8, 8),",
    "model": ", called with image_shape=(1, 8, 8), num_classes=2, dropout=0.1,",
    "data set": ", called with the data root FOLDER,",
    "attack": ", called with images (2, 1, 8, 8), steps=1, restarts=1,",
    "search space": ", called with methods=own_method:SmoothedLabels and the study's evaluation,",
}

# The start of a line of the example, the line that replaces it, and the line that is reported; DEF is where the object
# is defined, HERE the new line.
FAULTS = {
    "missing": {
        "method": ("class SmoothedLabels", "class Other:", " cannot be imported: own_method has no `SmoothedLabels`"),
        "model": (
            "def one_hidden_layer",
            "def one_layer(**_):",
            " cannot be imported: own_model has no `one_hidden_layer` (did you mean one_layer?)",
        ),
        "data set": ("import numpy", "import nump as np", " cannot be imported: No module named 'nump' HERE"),
        "attack": ("import torch", "raise SystemExit(3)", " cannot be imported: SystemExit: 3 HERE"),
        "search space": ("from dataclasses", "def", " cannot be imported: SyntaxError: invalid syntax (FILE, line 4)"),
    },
    "signature": {
        "method": (
            "    def __call__",
            "    def __call__(self, x, y):",
            " has a `__call__` that must take itself and a step: missing a required argument: 'y' DEF",
        ),
        "model": (
            "def one_hidden_layer",
            "def one_hidden_layer(*, image_shape, num_classes, dropout, mean, std):",
            " must take image_shape, num_classes, dropout: missing a required argument: 'mean' DEF",
        ),
        "data set": (
            "def halves",
            "def halves():",
            " must take one positional argument: too many positional arguments DEF",
        ),
        "attack": (
            "def sign_steps",
            "def sign_steps(model, x, y, /, *, epsilon):",
            " must take three positional arguments, ascent, generator: missing a required argument: 'epsilon' DEF",
        ),
        "search space": (
            "def learning_rates",
            "def learning_rates(*, methods):",
            " must take methods, evaluation: got an unexpected keyword argument 'evaluation' DEF",
        ),
    },
    "return": {
        "method": (
            "        return LossTerms",
            "        return loss.mean()",
            "GIVEN must return trainables.methods.base.LossTerms, got float32 () on cpu DEF",
        ),
        "model": (
            "        nn.Linear(32",
            "        nn.Linear(32, 7),",
            ", called with images (2, 1, 8, 8), must return floating-point logits (2, 2), "
            "got float32 (2, 7) on cpu DEF",
        ),
        "data set": (
            "    return",
            "    return images, labels",
            "GIVEN must return trainables.data.base.RawImages, got tuple DEF",
        ),
        "attack": (
            "    return worst",
            "    return worst.flatten(1)",
            "GIVEN must return points like the images, float32 (2, 1, 8, 8) on cpu, got float32 (2, 64) on cpu DEF",
        ),
        "search space": (
            "    return",
            "    return shared[0]",
            "GIVEN must return a list of dimensions, got Dimension DEF",
        ),
    },
    "raises": {
        "method": ("        logits =", "        raise KeyError('beta')", "GIVEN raised KeyError: 'beta' HERE"),
        "model": (
            "    return nn",
            "    raise ValueError('too small')\n    return (",
            "GIVEN raised ValueError: too small HERE",
        ),
        "data set": (
            "    generator",
            "    open(root / 'halves.npz')",
            "GIVEN raised FileNotFoundError: [Errno 2] No such file or directory: 'FOLDER/halves.npz' HERE",
        ),
        "attack": (
            "            gradient, loss",
            "            model.weights",
            "GIVEN raised AttributeError: 'OwnNetwork' object has no attribute 'weights' HERE",
        ),
        "search space": (
            "    rate",
            "    rate = settings_of(TrainingSpec)['rate']",
            "GIVEN raised KeyError: 'rate' HERE",
        ),
    },
}
CASES = [(fault, kind) for fault in FAULTS for kind in OBJECTS]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working folder with the examples."""
    shutil.copytree(EXAMPLES, tmp_path, dirs_exist_ok=True)
    (tmp_path / "data").mkdir()
    for module in MODULES.values():
        sys.modules.pop(module, None)
    return tmp_path


def edit(file: Path, beginning: str, line: str) -> int:
    """Replace the first line that begins so; return its number."""
    lines = file.read_text().splitlines()
    number = next(number for number, each in enumerate(lines) if each.startswith(beginning))
    lines[number] = line
    file.write_text("\n".join(lines) + "\n")
    return number + 1


def refused(folder: Path) -> list[str]:
    """Launch the study of a folder, which must be refused; return what is printed, without where code comes from."""
    result = robust_study(folder, "launch", "study.yaml", "--data-root", folder / "data")
    assert result.returncode == 2, result.stderr
    assert {path.name for path in folder.iterdir() if path.suffix != ".py"} - {"__pycache__"} == {"data", "study.yaml"}
    return [line for line in result.stderr.splitlines() if not line.startswith("code: ")]


@pytest.mark.parametrize(("fault", "kind"), CASES, ids=lambda word: word.replace(" ", "_"))
def test_each_kind_that_is_wrong_is_one_line_before_the_start(fault, kind, folder):
    beginning, line, problem = FAULTS[fault][kind]
    file = folder / f"{MODULES[kind]}.py"
    here = edit(file, beginning, line)
    defined = next(
        (n for n, text in enumerate(file.read_text().splitlines(), 1) if re.match(r"@dataclass|def ", text)), None
    )
    expected = f"robust-study: {kind} {OBJECTS[kind]!r}{problem.replace('GIVEN', GIVEN[kind])}"
    places = {"HERE": f"({file.name}:{here})", "DEF": f"({file.name}:{defined})", "FILE": file.name}
    for word, place in (places | {"FOLDER": str(folder / "data")}).items():
        expected = expected.replace(word, place)
    assert refused(folder) == [expected]


RAW = """\
    TWO = {{'class_names': ('left', 'right')}}
    return RawImages(images[:300], labels[:300], images[300:], labels[300:], {})"""
MIXED = "type('', (nn.Sequential,), {'forward': lambda self, x: nn.Sequential.forward(self, x).softmax(0)})"
CHANGED = "    list(model.parameters())[0].data += 1; return worst"
KEPT = "nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))"
DETACHED = "type('', (nn.Sequential,), {'forward': lambda self, x: nn.Sequential.forward(self, x).detach()})"


@pytest.mark.parametrize(
    ("kind", "beginning", "line", "problem"),
    [
        ("method", "        return", "        return LossTerms({'loss': loss.mean()})", "one value an image in each"),
        ("method", "        return", "        return LossTerms({})", "at least one part of a loss, got none"),
        ("method", "        return", "        return LossTerms({'a': loss.detach()})", "on the network's weights"),
        ("method", "        return", "        return LossTerms({'a': loss}, {'b': 2})", "weights of the parts a only"),
        ("method", "    attacks", "    attacks: ClassVar[str] = 'pgd'", "must have `attacks` True or False, got 'pgd'"),
        ("method", "    attacks", "    beta: float\n    attacks: ClassVar[bool] = True", "missing 1 required .*'beta'"),
        ("model", "    return nn", "    return 'net' or (", "must return a torch.nn.Module, got str"),
        ("model", "    return nn", "    return type('', (nn.Module,), {'__init__': print})() or (", "AttributeError"),
        ("model", "    return nn", f"    return {DETACHED}(", "must return logits with a gradient"),
        ("data set", "    return", "    return RawImages([], [], [], [], class_names=())", "must be a NumPy array"),
        ("data set", "    return", RAW.format("class_names='ab'"), "class_names must be a tuple of texts, got 'ab'"),
        ("data set", "    return", RAW.format("class_names=(0, 1)"), r"a tuple of texts, got \(0, 1\)"),
        ("data set", "    return", RAW.format("class_names=('a', 'a')"), "must differ, got 'a' more than once"),
        ("data set", "    return", RAW.format("**TWO, notes='noise'"), "notes must be a tuple of texts, got 'noise'"),
        ("data set", "    return", RAW.format("**TWO, scale=0"), r"scale must be a whole number in \[1, inf\], got 0"),
        ("data set", "    return", RAW.format("**TWO, split_seed=-1"), r"split_seed must be .* in \[0, 4294967295\]"),
        ("model", "    return nn", f"    return {MIXED}(", "logits that it has alone"),
        ("attack", "    return worst", "    return worst.double()", "got float64"),
        ("attack", "    return worst", CHANGED, "leave the network as it is, but changed its weights"),
        ("method", "        return", "        return LossTerms({'a': loss / 0 * 0})", "a finite loss of an untrained"),
        ("model", "        nn.Linear(math", "        nn.LazyLinear(32),", r"got none for 1.weight \(lazy or meta\)"),
        ("model", "        nn.Linear(math", "        nn.Linear(64, 32, device='meta'),", r"for 1.weight \(lazy or"),
        ("model", "    return nn", f"    return globals().setdefault('KEPT', {KEPT}) or (", "got the same weights"),
        ("data set", "    images[labels == 1", "    images = np.ma.array(images)", "a NumPy array, got MaskedArray"),
        ("attack", "    return worst", "    return worst / 0 * 0", r"finite points, got NaN or infinity in \d of \d"),
        ("search space", "    return", "    return [1]", "Dimension objects, got int"),
        ("search space", "    return", "    return [from_setting(rate)]", "`train_epsilon` must be a radius"),
        (
            "search space",
            "    return",
            "    return [from_setting(rate)]",
            r"must return a dimension `train_epsilon`: .* which attacks \(own_space.py:12\)$",
        ),
        ("search space", "    return", "    return [*shared, shared[0]]", "got `train_epsilon` more than once"),
        ("search space", "    return", "    return [replace(shared[0], name='epsilon')]", "got `epsilon`"),
        ("search space", "    return", "    return [replace(shared[0], high=3)]", "`train_epsilon` must be in"),
        ("search space", "    rate", "    raise StopIteration", "raised StopIteration"),
    ],
)
def test_what_else_an_object_returns_is_refused(kind, beginning, line, problem, folder):
    edit(folder / f"{MODULES[kind]}.py", beginning, line)
    (printed,) = refused(folder)
    assert re.search(problem, printed), printed
    assert OBJECTS[kind] in printed


@pytest.mark.parametrize(("line", "said"), [("    __import__('torch').manual_seed(0)", True), ("    pass", False)])
def test_weights_that_do_not_depend_on_the_seed_are_said(line, said, folder, monkeypatch):
    edit(folder / "own_model.py", '    """Return a network', line)
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(folder)
    start = new_start("study.yaml", assignments=(), out=folder, data_root=None, address=None)
    findings = [finding for check in (check_data, check_model) for finding in check(start)]
    text = (
        "the weights that own_model:one_hidden_layer begins with do not depend on the seed: they are the same in all "
        "trials"
    )
    assert [finding.text for finding in findings if finding.is_warning] == [text] * said


def test_an_attack_that_writes_to_its_labels_changes_no_result(folder):
    from trainables.attacks.base import load_attack, run_attack
    from trainables.attacks.threat import Ascent, ThreatModel

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        (folder / "own_attack.py").write_text(
            "def own(model, x, y, /, *, ascent, generator):\n    y += 1\n    return x\n"
        )
        ascent = Ascent(ThreatModel("linf", 0.1), steps=1, restarts=1)
        x = torch.rand(4, 1, 8, 8)
        model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 3))
        labels = model(x).argmax(1)
        assert run_attack(load_attack("own_attack:own"), model, x, labels, ascent=ascent, seed=0)[0].all()


def test_a_file_in_place_of_a_module_is_told():
    name = "own_model.py:one_hidden_layer"
    tree = {"name": "s", "dataset": {"name": "digits"}, "search": {"space": name}}
    with pytest.raises(Exception, match=r"cannot be imported: .* \(did you mean own_model:one_hidden_layer\?\)"):
        load_config(tree)


def test_every_module_that_a_study_names_is_sent_to_the_workers(folder, monkeypatch):
    monkeypatch.syspath_prepend(folder)
    config = load_config(str(folder / "study.yaml"))
    assert set(study_packages(config)) >= set(MODULES.values())


def test_the_page_shows_the_files_that_are_tested():
    page = (ROOT / "docs" / "extending.md").read_text()
    blocks = re.findall(r"```(?:python|yaml)\n(.*?)```", page, re.DOTALL)
    assert blocks == [(EXAMPLES / name).read_text() for name in ["study.yaml", *(f"{m}.py" for m in MODULES.values())]]
    for module in MODULES.values():
        assert 10 <= len((EXAMPLES / f"{module}.py").read_text().splitlines()) <= 30
