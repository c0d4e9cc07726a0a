"""What checks a configuration or answers a finished run does not import torch."""

from __future__ import annotations

import subprocess
import sys

import pytest

MODULES = [
    "explorer.evaluation.budgets",
    "explorer.evaluation.settings",
    "explorer.pruning.allocation",
    "explorer.pruning.criteria",
    "explorer.pruning.criteria.catalogue",
    "explorer.pruning.criteria.options",
    "explorer.utils.fingerprints",
]


@pytest.mark.parametrize("module", MODULES)
def test_torch_is_not_imported_by(module: str) -> None:
    code = f"import sys, {module}; assert 'torch' not in sys.modules and 'hydra' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
