"""Settings of every test run."""

from __future__ import annotations

import os

# as the command does, and for the processes that tests start; it is read when torch is imported
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import torch

# tests run beside other work on few cores; one thread also makes sums the same on every machine
torch.set_num_threads(1)
