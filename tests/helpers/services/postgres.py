"""A temporary PostgreSQL server for a test: password-protected, on 127.0.0.1 only."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helpers.services.ports import free_port

USER, PASSWORD = "study", "only-for-tests"


@dataclass(frozen=True)
class Server:
    """A running server.

    Attributes:
        port: Port of 127.0.0.1.
        bin: Folder of its programs.
    """

    port: int
    bin: Path

    def url(self, database: str, /, *, driver: str = "") -> str:
        """Return the URL of a database without the password, which clients read from `PGPASSWORD`.

        Args:
            database: Its name.
            driver: SQLAlchemy's driver, such as "psycopg"; empty for a plain `postgresql://`.
        """
        scheme = f"postgresql+{driver}" if driver else "postgresql"
        return f"{scheme}://{USER}@127.0.0.1:{self.port}/{database}"

    def create(self, database: str, /) -> str:
        """Create a database and return its plain URL."""
        self._run("createdb", database)
        return self.url(database)

    def sql(self, database: str, statement: str, /) -> str:
        """Run a statement and return its unformatted output."""
        return self._run("psql", "--no-align", "--tuples-only", "--dbname", database, "--command", statement).strip()

    def _run(self, program: str, *arguments: str) -> str:
        server = ["--host", "127.0.0.1", "--port", str(self.port), "--username", USER, "--no-password"]
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        process = subprocess.run(
            [self.bin / program, *server, *arguments], env=environment, capture_output=True, text=True, timeout=60
        )
        if process.returncode:
            raise RuntimeError(f"{program}: {process.stderr}")
        return process.stdout


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL server's programs; None if none is installed."""
    candidates = [Path(path).resolve() for path in (shutil.which("pg_ctl"),) if path]
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), reverse=True)
    # some systems put wrappers of only a few of them on the path
    return next((path.parent for path in candidates if (path.parent / "initdb").exists()), None)


@contextmanager
def temporary_postgres() -> Iterator[Server]:
    """Run a server in a folder that its own account can read, unlike pytest's."""
    folder = Path(tempfile.mkdtemp(prefix="robust-study-pg-"))
    folder.chmod(0o755)
    try:
        with postgres(folder / "server") as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def postgres(folder: Path) -> Iterator[Server]:
    """Run a server with its files in `folder`, which the server's account must be able to reach."""
    bin_folder = programs()
    if bin_folder is None:
        raise RuntimeError("no PostgreSQL server is installed")
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    server, data = Server(port=free_port(), bin=bin_folder), folder / "data"
    as_server: list[str] = []
    if os.geteuid() == 0:
        # PostgreSQL refuses to run as root
        as_server = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
        shutil.chown(secret, "postgres")
    run = {"check": True, "capture_output": True, "timeout": 120, "cwd": folder}
    access = ["--auth", "scram-sha-256", "--pwfile", str(secret)]
    subprocess.run([*as_server, bin_folder / "initdb", "-D", data, "-U", USER, "--no-sync", *access], **run)
    options = f"-h 127.0.0.1 -p {server.port} -k {folder} -F"
    # logs to a file, as `pg_ctl start` would never end with a pipe
    subprocess.run(
        [*as_server, bin_folder / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start"], **run
    )
    try:
        yield server
    finally:
        subprocess.run([*as_server, bin_folder / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], **run)
