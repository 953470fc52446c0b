"""Every command that the README and the docs show is run, or stands here with what is run in its place."""

from __future__ import annotations

import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from pathlib import Path

import pytest
from helpers.structure.shell_blocks import Command, commands
from helpers.studies.in_process import robust_study
from helpers.studies.plain_study import leave_out_pictures, run_plain

ROOT = Path(__file__).resolve().parents[1]

# How many commands of each kind the documents show. A new one is counted here once it is accounted for.
SHOWN = {"make": 2, "cheap": 6, "small": 17, "serves": 1, "elsewhere": 5}

# A command that takes long, and the smaller one that is run for it. They run in this order, in one folder, so that
# what works on a study finds the one that was launched small; there the command itself can stand in its place.
SMALL = {
    "robust-study launch mnist --set search.num_trials=40": (
        "robust-study launch quickstart --set name=mnist --set search.num_trials=3 --set training.epochs=1"
    ),
    "robust-study launch study.yaml": "robust-study launch studies/mnist/study.yaml --set name=again --dry-run",
    "robust-study status studies/mnist": "robust-study status studies/mnist",
    "robust-study stop studies/mnist": "robust-study stop studies/mnist",
    "robust-study resume studies/mnist": "robust-study resume studies/mnist",
    # saved for the network of one's own that is measured at the end
    "robust-study train studies/mnist --trial 0": "robust-study train studies/mnist --trial 0 --save my_network.pt",
    "robust-study doctor studies/mnist": "robust-study doctor studies/mnist",
    "robust-study pareto studies/mnist": "robust-study pareto studies/mnist",
    "robust-study report studies/mnist": "robust-study report studies/mnist",
    "robust-study figures studies/mnist": "robust-study figures studies/mnist --format svg",
    "robust-study export studies/mnist --out rows.parquet": "robust-study export studies/mnist --out rows.parquet",
    "robust-study sync studies/mnist": "robust-study sync studies/mnist",
    "robust-study evaluate studies/mnist --front --limit 200": "robust-study evaluate studies/mnist --front --limit 10",
    "robust-study evaluate studies/mnist --trial 0 --attack multi_targeted": (
        "robust-study evaluate studies/mnist --trial 0 --attack multi_targeted --limit 10"
    ),
    "robust-study pareto studies/mnist --split test": "robust-study pareto studies/mnist --split test",
    "robust-study separation mnist --epsilon 0.1": "robust-study separation digits --train 200 --test 50 --epsilon 0.1",
    "robust-study evaluate --checkpoint my_network.pt --model cnn2 --dataset mnist --epsilon 0.1": (
        "robust-study evaluate --checkpoint my_network.pt --model mlp --dataset digits --epsilon 0.1 "
        "--attack fgsm --steps 2 --limit 10"
    ),
}

# Commands that serve a page until they are interrupted; they run on a free port.
SERVES = {"robust-study ui studies/mnist": "robust-study ui studies/mnist --port {port}"}

# What cannot be run by a test of this checkout, and why that is no gap.
ELSEWHERE = {
    "git clone REPOSITORY robust-study && cd robust-study": "this checkout is such a clone",
    "source .venv/bin/activate": "the commands here run with .venv/bin first on the PATH",
    "robust-study reproduce table2": "test_reproduce_e2e.py runs a table with two settings",
    "robust-study compare studies/mnist studies/quickstart": "test_compare.py runs it on two studies",
    "robust-study confirm studies/mnist --seeds 3": "test_confirm_e2e.py runs it with one new seed",
}

# Smaller yet: all that takes time of a study that is launched.
SMALLEST = (
    "search.num_trials=2", "model.name=mlp", "dataset.train_size=128", "evaluation.examples=32",
    "evaluation.lipschitz.examples=8", "front.strong_images=2",
)  # fmt: skip

# What only a shell understands.
SHELL = re.compile(r"[|&;<>$`*?()~\n]")

NEEDS_DATA = re.compile(r"\b(launch|train) (mnist|fashion_mnist|cifar10)\b")


def documents() -> list[Command]:
    found = commands((ROOT / "README.md").read_text(encoding="utf-8"), name="README.md")
    for path in sorted((ROOT / "docs").rglob("*.md")):
        name = path.relative_to(ROOT).as_posix()
        found += commands(path.read_text(encoding="utf-8"), name=name, info="bash tested")
    return found


def kind(command: Command) -> str:
    words = command.words
    if words[0] == "make":
        return "make"
    if words[:2] == ["python", "-c"]:
        return "cheap"
    if words[0] == "robust-study" and ("--help" in words or "--dry-run" in words or words[1:2] == ["list"]):
        return "cheap"
    for name, table in {"small": SMALL, "serves": SERVES, "elsewhere": ELSEWHERE}.items():
        if command.text in table:
            return name
    return "unaccounted"


def of_kind(name: str) -> list[object]:
    """Return the commands of a kind, each once."""
    found = {command.text: command for command in documents() if kind(command) == name}
    return [pytest.param(command, id=text) for text, command in found.items()]


def environment() -> dict[str, str]:
    tools = Path(sys.executable).parent
    return os.environ | {"PATH": f"{tools}{os.pathsep}{os.environ['PATH']}"}


def run(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in a shell, as a reader would."""
    skip_without_data(text)
    result = subprocess.run(
        ["bash", "-c", text],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert result.returncode == 0, f"{text}\n{result.stdout}\n{result.stderr}"
    return result


def skip_without_data(text: str) -> None:
    if NEEDS_DATA.search(text) and not os.environ.get("ROBUST_STUDY_DATA"):
        pytest.skip("ROBUST_STUDY_DATA is unset: no real images on this machine")


def run_small(text: str, folder: Path) -> None:
    """Run a command of ours in this process; dry-run what it launches, and run its trials smaller yet without Ray."""
    name, *words = shlex.split(text)
    if name != "robust-study" or SHELL.search(text):
        run(text, folder)
        return
    skip_without_data(text)
    launched = words[0] == "launch" and "--dry-run" not in words  # test_study_e2e.py launches one with Ray
    smallest = [word for one in SMALLEST for word in ("--set", one)] if launched else []
    ended = robust_study(folder, *words, *smallest, *["--dry-run"] * launched)
    assert ended.returncode == 0, f"{text}\n{ended.stdout}\n{ended.stderr}"
    if launched:
        _, source, *options = words
        assert set(options[::2]) == {"--set"}, text
        with pytest.MonkeyPatch.context() as patch:
            patch.chdir(folder)
            leave_out_pictures(patch)  # `resume` draws them
            run_plain(source, Path("studies"), assignments=[*options[1::2], *SMALLEST])


def test_every_command_is_accounted_for() -> None:
    loose = [f"{command.place}: {command.text}" for command in documents() if kind(command) == "unaccounted"]
    assert not loose, "nothing runs these commands:\n" + "\n".join(loose)
    assert Counter(kind(command) for command in documents()) == SHOWN


def test_nothing_is_kept_for_a_command_that_is_gone() -> None:
    shown = {command.text for command in documents()}
    assert not (SMALL.keys() | SERVES.keys() | ELSEWHERE.keys()) - shown


def test_small_commands_run_in_the_documents_order() -> None:
    assert [command.text for command in documents() if kind(command) == "small"] == list(SMALL)


def test_what_the_documents_link_to_and_name_is_there() -> None:
    pages = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    named, gone = 0, []
    for page in pages:
        text = page.read_text(encoding="utf-8")
        links = [page.parent / one for one in re.findall(r"\]\(([^)#:]+)\)", text)]
        folders = "analysis|benchmarks|docs|search_spaces|study|tests|trainables"
        files = [ROOT / one for one in re.findall(rf"`((?:{folders})/[\w./]*)`", text)]
        named += len(links) + len(files)
        gone += [f"{page.relative_to(ROOT)}: {one}" for one in [*links, *files] if not one.exists()]
    assert not gone
    assert named > 100


def test_every_page_is_in_the_index_of_the_docs() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"^\* \[(\w+\.md)\]", index, re.MULTILINE))


@pytest.mark.parametrize("command", of_kind("make"))
def test_make_target_exists(command: Command) -> None:
    phony = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert phony
    targets = [word for word in command.words[1:] if "=" not in word]
    assert targets
    assert set(targets) <= set(phony[1].split()), command.place


@pytest.mark.e2e
@pytest.mark.parametrize("command", of_kind("cheap"))
def test_cheap_command_runs_as_it_is(command: Command, tmp_path: Path) -> None:
    in_process = command.words[0] == "robust-study" and "--help" not in command.words
    ended = robust_study(tmp_path, *command.words[1:]) if in_process else run(command.text, tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("readme")


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.parametrize("command", of_kind("small"))
def test_command_runs_small(command: Command, folder: Path) -> None:
    run_small(SMALL[command.text], folder)


@pytest.mark.e2e
@pytest.mark.long
@pytest.mark.parametrize("command", of_kind("serves"))
def test_command_serves(command: Command, folder: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    check_served(SERVES[command.text].format(port=port), port=port, folder=folder)


def check_served(text: str, *, port: int, folder: Path) -> None:
    """Start a server, wait until its page answers, and end it and its children."""
    log = folder / "served.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            ["bash", "-c", text],
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline and server.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
                    assert page.status == 200
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.2)
        pytest.fail(f"{text}: no page on port {port}\n{log.read_text()}")
    finally:
        try:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait(timeout=20)
        except ProcessLookupError:
            pass
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


# The mechanism itself, on a text made for it.

SAMPLE = """\
Text with `inline` code.

```bash
make quickstart            # install and run
$ robust-study list methods

# a comment alone
robust-study launch mnist \\
    --set search.num_trials=4
python -c "import study
print('#', 1)"  # two lines
```

```text
not a command
```

    ```bash
    indented under a list item
    ```
````bash tested
echo '```'
````
"""


def test_commands_are_found_as_typed() -> None:
    assert [(one.text, one.place) for one in commands(SAMPLE, name="S.md")] == [
        ("make quickstart", "S.md:4"),
        ("robust-study list methods", "S.md:5"),
        ("robust-study launch mnist --set search.num_trials=4", "S.md:8"),
        ("python -c \"import study\nprint('#', 1)\"", "S.md:10"),
        ("indented under a list item", "S.md:19"),
    ]
    assert [one.text for one in commands(SAMPLE, name="S.md", info="bash tested")] == ["echo '```'"]


@pytest.mark.parametrize("broken", ["```bash\nmake x\n", "```bash\necho 'open\n```\n", "```bash\nmake \\\n```\n"])
def test_a_broken_block_is_an_error(broken: str) -> None:
    with pytest.raises(ValueError, match=r"S\.md"):
        commands(broken, name="S.md")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("make test", "make"),
        ("python -c 'pass'", "cheap"),
        ("python script.py", "unaccounted"),
        ("robust-study launch cifar10 --dry-run", "cheap"),
        ("robust-study --help", "cheap"),
        ("robust-study list spaces", "cheap"),
        ("robust-study launch cifar10", "unaccounted"),
        ("rm -rf /tmp/x", "unaccounted"),
    ],
)
def test_kinds(text: str, expected: str) -> None:
    assert kind(Command(text, "S.md:1")) == expected


def test_a_command_that_fails_fails_the_test(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="exit 3"):
        run("echo something >&2; exit 3", tmp_path)


def test_a_page_is_waited_for_and_its_server_ended(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    text = f"python -c 'import time; time.sleep(0.5)'; exec python -m http.server --bind 127.0.0.1 {port}"
    check_served(text, port=port, folder=tmp_path)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_a_server_that_dies_fails_the_test(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="gone wrong"):
        check_served("echo gone wrong; exit 1", port=9, folder=tmp_path)
