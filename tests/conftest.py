"""Settings of every test run."""

from __future__ import annotations

import os
from pathlib import Path

# as the command does, and for the processes that tests start; it is read when torch is imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import pytest
import torch

# tests run beside other work on few cores; one thread also makes sums the same on every machine
torch.set_num_threads(1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A working folder that all tests share, so that the dense network is trained once."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture
def explore(folder, monkeypatch, capsys):
    """Run `explore` in the working folder, in this process, and return its exit code, output and errors."""
    monkeypatch.chdir(folder)

    from explorer.cli import main

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return run
