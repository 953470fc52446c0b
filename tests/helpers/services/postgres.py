"""A PostgreSQL server of a test's own: thrown away with the test, password-protected, on 127.0.0.1 alone."""

from __future__ import annotations

import os
import shutil
import subprocess
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
        port: Where it listens, on 127.0.0.1.
        bin: Folder of its programs.
    """

    port: int
    bin: Path

    def url(self, database: str, /, *, driver: str = "") -> str:
        """Return the URL of a database, without the password, which is in `PGPASSWORD` or nowhere.

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
        """Run a statement and return what it prints, bare."""
        return self._run("psql", "--no-align", "--tuples-only", "--dbname", database, "--command", statement).strip()

    def _run(self, program: str, *arguments: str) -> str:
        where = ["--host", "127.0.0.1", "--port", str(self.port), "--username", USER, "--no-password"]
        environment = {**os.environ, "PGPASSWORD": PASSWORD}
        done = subprocess.run(
            [self.bin / program, *where, *arguments], env=environment, capture_output=True, text=True, timeout=60
        )
        if done.returncode:
            raise RuntimeError(f"{program}: {done.stderr}")
        return done.stdout


def programs() -> Path | None:
    """Return the folder of the newest PostgreSQL server's programs; None where none is installed."""
    found = [Path(path).resolve() for path in (shutil.which("pg_ctl"),) if path]
    found += sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), reverse=True)
    # some systems put wrappers of a few of them on the path
    return next((path.parent for path in found if (path.parent / "initdb").exists()), None)


@contextmanager
def postgres(folder: Path) -> Iterator[Server]:
    """Run a server that keeps its files in `folder`, which the server's account must be able to reach."""
    found = programs()
    if found is None:
        raise RuntimeError("no PostgreSQL server is installed")
    folder.mkdir(parents=True, exist_ok=True)
    secret = folder / "password"
    secret.write_text(PASSWORD)
    server, data = Server(port=free_port(), bin=found), folder / "data"
    as_server: list[str] = []
    if os.geteuid() == 0:
        # it refuses to run as root
        as_server = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
        shutil.chown(secret, "postgres")
    run = {"check": True, "capture_output": True, "timeout": 120, "cwd": folder}
    access = ["--auth", "scram-sha-256", "--pwfile", str(secret)]
    subprocess.run([*as_server, found / "initdb", "-D", data, "-U", USER, "--no-sync", *access], **run)
    options = f"-h 127.0.0.1 -p {server.port} -k {folder} -F"
    # its log is no pipe of ours, or `pg_ctl start` would never end
    subprocess.run(
        [*as_server, found / "pg_ctl", "-D", data, "-l", folder / "log", "-o", options, "-w", "start"], **run
    )
    try:
        yield server
    finally:
        subprocess.run([*as_server, found / "pg_ctl", "-D", data, "-m", "immediate", "-w", "stop"], **run)
