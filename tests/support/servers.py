"""Servers that tests start: PostgreSQL where it is installed, and Optuna's gRPC proxy in front of it."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

# Debian keeps the server's programs out of PATH
_FOLDERS = [*sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True), *Path("/opt/homebrew/opt").glob("*/bin")]
_SETTINGS = "-c fsync=off -c shared_buffers=16MB -c listen_addresses=127.0.0.1"


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class PostgreSQL:
    """A server of its own in a temporary folder."""

    def __init__(self) -> None:
        pytest.importorskip("psycopg", exc_type=ImportError)
        found = shutil.which("pg_ctl", path=os.pathsep.join([*map(str, _FOLDERS), os.environ.get("PATH", "")]))
        if found is None:
            pytest.skip("PostgreSQL is not installed")
        self._programs = Path(found).parent
        # the server refuses to be root's, and root's folders are closed to others
        self._as: list[str] = []
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        if os.getuid() == 0:
            user = next((name for name in ("postgres", "nobody") if _exists(name)), None)
            if user is None or shutil.which("setpriv") is None:
                pytest.skip("PostgreSQL refuses to run as root")
            entry = pwd.getpwnam(user)
            self._as = ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        self._run(
            "initdb",
            "-E",
            "UTF8",
            "-D",
            str(self._data),
            "-U",
            "explorer",
            "-A",
            "trust",
            "--no-sync",
            "--no-instructions",
        )
        for attempt in range(3):
            # somebody else may take the port first
            self._port = free_port()
            try:
                self._control("start")
                break
            except subprocess.CalledProcessError:
                if attempt == 2:
                    raise

    @property
    def _data(self) -> Path:
        return self.folder / "data"

    def new(self, name: str) -> str:
        """Make a database and return its URL, with a password that nobody checks."""
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "explorer", name)
        return f"postgresql+psycopg://explorer:secret@127.0.0.1:{self._port}/{name}"

    def restart(self, pause: float = 0.0) -> None:
        """Break all connections at once, and be away for so many seconds."""
        self._control("stop", "-m", "immediate")
        time.sleep(pause)
        self._control("start")

    @contextmanager
    def shutting_down(self, url: str) -> Iterator[None]:
        """Refuse new connections inside, as a server does that waits for an old one to end; start again after."""
        import psycopg

        address = url.replace("+psycopg", "")
        with closing(psycopg.connect(address)):
            self._control("stop", "-m", "smart", "-W")
            while True:
                try:
                    psycopg.connect(address).close()
                except psycopg.OperationalError:
                    break
            yield
        self.restart()

    def close(self) -> None:
        self._control("stop", "-m", "immediate")
        shutil.rmtree(self.folder, ignore_errors=True)

    def _control(self, word: str, *arguments: str) -> None:
        options = f"-p {self._port} -k {self.folder} {_SETTINGS}"
        self._run(
            "pg_ctl", "-D", str(self._data), "-w", "-l", str(self.folder / "log"), "-o", options, word, *arguments
        )

    def _run(self, program: str, *arguments: str) -> None:
        # the server keeps what it inherits open: nothing may wait for the end of its output
        subprocess.run(
            [*self._as, str(self._programs / program), *arguments],
            check=True,
            cwd="/",
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"LC_ALL": "C"},
        )


@contextmanager
def proxy(url: str, port: int | None = None) -> Iterator[str]:
    """Start Optuna's gRPC proxy before a database, as the documented command does, and give its address."""
    pytest.importorskip("grpc")
    port = port or free_port()
    code = (
        "import optuna; optuna.storages.run_grpc_proxy_server("
        f"optuna.storages.get_storage({url!r}), host='127.0.0.1', port={port})"
    )
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", code])
    try:
        yield f"127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
