"""What an unprivileged user needs to run the command on this machine: a home, and a Python that this user can read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from helpers.structure.architecture import PACKAGES, ROOT

USER = "nobody"
SCRIPTS = {"robust-study": "study.cli", "ray": "ray.scripts.scripts"}


@dataclass
class Unprivileged:
    """The user `nobody` with a home and a virtual environment of this project.

    Args:
        folder: An empty folder that any user can reach.
    """

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.home.mkdir()
        shutil.chown(self.home, USER)
        self.variables |= {"HOME": str(self.home), "PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def venv(self) -> Path:
        return self.folder / "venv"

    def run(self, *words: object, cwd: Path | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program as this user."""
        options: dict[str, Any] = {"user": USER, "group": os.stat(self.home).st_gid, "extra_groups": []}
        result = subprocess.run(
            [str(word) for word in words], cwd=cwd or self.home, env=self.variables, capture_output=True, text=True,
            timeout=120, check=False, **options,
        )  # fmt: skip
        assert result.returncode == 0 or not check, f"{words}: {result.stdout}{result.stderr}"
        return result

    def can_run(self, program: Path) -> bool:
        try:
            return self.run(program, "-c", "", check=False).returncode == 0
        except PermissionError:
            return False

    def install(self) -> str | None:
        """Make the virtual environment from the one that runs this; return why this is impossible, None if it is done.

        It has a copy of this project and, by reference, the packages of the environment that runs this.
        """
        packages = Path(sysconfig.get_paths()["purelib"])
        if self.run("test", "-r", packages / "ray" / "__init__.py", check=False).returncode:
            return f"the user {USER} cannot read {packages}"
        base = Path(sys.base_prefix)
        python = base / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
        if not self.can_run(python):  # such as one in root's home
            leave_out = shutil.ignore_patterns("test", "site-packages", "__pycache__", "share")
            base = Path(shutil.copytree(base, self.folder / "python", symlinks=True, ignore=leave_out))
            python = base / "bin" / python.name
            self.variables["LD_LIBRARY_PATH"] = str(base / "lib")
        environment = os.environ | self.variables
        subprocess.run([python, "-m", "venv", "--without-pip", self.venv], env=environment, check=True)
        target = self.venv / "lib" / python.name / "site-packages"
        (target / "packages.pth").write_text(f"{packages}\n")
        for name in PACKAGES:
            shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
        for name, module in SCRIPTS.items():
            script = self.venv / "bin" / name
            script.write_text(f"#!{self.venv}/bin/python\nfrom {module} import main\n\nmain()\n")
            script.chmod(0o755)
        return None
