"""A random ResNet-20 and images of noise, in the files that benchmarks of published networks read."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from safetensors.torch import save_file

from explorer.models import MODELS

__all__ = ["published"]


def published(folder: Path, bench: str) -> list[str]:
    """Write both, and return the overrides by which a benchmark finds them."""
    noise = np.random.default_rng(0)
    data = folder / "data"
    data.mkdir()
    for part, count in (("train", 5200), ("test", 20)):
        rows = []
        for number in range(count):
            buffer = io.BytesIO()
            Image.fromarray(noise.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(buffer, format="png")
            rows.append({"image": {"bytes": buffer.getvalue(), "path": None}, "label": number % 10})
        pd.DataFrame(rows).to_parquet(data / f"{part}-00000-of-00001.parquet")
    torch.manual_seed(0)
    save_file(MODELS["resnet20"]().state_dict(), folder / "weights.safetensors")
    return [f"{bench}.data={data}", f"{bench}.weights={folder / 'weights.safetensors'}"]
