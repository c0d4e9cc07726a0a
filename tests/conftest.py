"""Settings of every test run."""

from __future__ import annotations

import torch

# tests run beside other work on few cores; one thread also makes sums the same on every machine
torch.set_num_threads(1)
