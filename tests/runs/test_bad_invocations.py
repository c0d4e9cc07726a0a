"""Two hundred bad invocations, drawn at random: one line and exit code 2 each, and nothing left behind."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from explorer.utils.conf import GROUPS, defaults, options_of

# of keys that are numbers by their default, and of two that are by what they mean
_BAD = ("word", "-1", "[1]", "{a: 1}", "1e999", "nan", "9" * 25, "true", "''")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def _numbers(values: dict[str, Any], prefix: str = "") -> list[str]:
    found = []
    for key, value in values.items():
        if isinstance(value, dict) and key not in ("hydra", "budget", "baseline_targets"):
            found += _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, int | float) and not isinstance(value, bool) and key != "ladder":
            found.append(f"{prefix}{key}")
    return found


def _misspelt(word: str, rng: random.Random) -> str:
    place = rng.randrange(len(word))
    letter = rng.choice([other for other in _LETTERS if other != word[place]])
    return word[:place] + letter + word[place + 1 :]


def _bad(rng: random.Random) -> list[str]:
    """Return the arguments of one invocation that cannot be meant."""
    base = defaults("run")
    numbers = _numbers(base) + _numbers(defaults("evaluator/inherit"), "evaluator.") + ["timeout"]
    keys = [key for key in base if key not in ("defaults", "hydra")]
    group = rng.choice([group for group in GROUPS if group not in ("model", "data", "task")])
    kinds = [
        lambda: ["run", f"{rng.choice(numbers)}={rng.choice(_BAD)}"],
        lambda: ["run", f"{_misspelt(rng.choice(keys), rng)}x=1"],
        lambda: ["run", f"{group}={_misspelt(rng.choice(options_of(group)), rng)}x"],
        lambda: ["run", f"budget.{rng.choice(['flops', 'params', 'bytes', 'latency_ms'])}={rng.choice(_BAD[:-3])}x"],
        lambda: ["run", f"objectives={rng.choice(['[]', '[eror]', 'error', '[flops,flops]', '{a: 1}', '7'])}"],
        lambda: ["run", f"baselines={rng.choice(['[unifrom]', 'uniform', '{a: 1}'])}"],
        lambda: ["run", f"space.ratios={rng.choice(['[2]', '[-1]', '[word]', '.5', '[[1]]', '[0]'])}"],
        lambda: ["run", f"model.weights={rng.choice(['nowhere.safetensors', '.', '/dev/null/x'])}"],
        lambda: ["run", f"device={rng.choice(['cpuu', 'cuda:99', 'meta', '3x'])}"],
        lambda: ["run", f"name={rng.choice(['a/b', '..', 'n' * 300, 'bench', 'a b'])}"],
        lambda: ["run", f"--{''.join(rng.choices(_LETTERS, k=6))}"],
        lambda: ["export", rng.choice(["nowhere", "--flops", "results/none"])],
        lambda: ["inspect", rng.choice(["nowhere", "sapce=filter", "--jsn"])],
        lambda: [_misspelt(rng.choice(["run", "export", "inspect", "bench"]), rng) + "x"],
        lambda: ["bench", *rng.choice([["nothing"], ["costs", "costs.model=none"], ["costs.recipes=-1"]])],
    ]
    return rng.choice(kinds)()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(200))
def test_a_bad_invocation_is_one_line(explore, folder: Path, seed: int) -> None:
    arguments = _bad(random.Random(seed))
    code, _, err = explore(*arguments)
    assert (code, err.count("\n")) == (2, 1), (arguments, err)
    left = [path.name for path in folder.rglob("*") if path.name != ".cache" and ".cache" not in path.parts]
    assert left in ([], ["results"]), (arguments, left)
