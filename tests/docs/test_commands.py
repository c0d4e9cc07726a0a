"""Every command and every key that the pages name is one: it composes, and its flags are known."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from explorer.runs.composing import compose
from explorer.runs.config import RunConfig
from explorer.utils.conf import GROUPS, defaults, options_of
from tests.support.pages import NAMES, ROOT, blocks, commands, rows, spans
from tests.support.run_folders import write_run

COMPOSED = {"run": "run", "inspect": "run", "population": "population"}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder in which everything lies that the pages' commands name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("cifar10-parquet", "photos", "reviews", "my-distilbert", "my-llama", "package"):
        (tmp_path / name).mkdir()
    for name in ("resnet20.safetensors", "texts.txt"):
        (tmp_path / name).touch()
    (tmp_path / "package" / "module.py").write_text(
        "def function():\n    return None\n\nNet = load = task = function\n"
    )
    (tmp_path / "mine.py").write_text("\n\n".join(blocks(ROOT / "docs" / "extending.md", "python")))
    (tmp_path / "my_space.yaml").write_text(blocks(ROOT / "docs" / "spaces.md", "yaml")[0])
    recipes = write_run(tmp_path / "results" / "NAME").path / "recipes"
    recipes.mkdir()
    (recipes / "trial-0012.yaml").write_text("channels: {stem: 0.5}\n")
    option = "name: refined\nchannels: [{match: '*', choices: [{granularity: filter, ratios: [1, 0.5]}]}]\n"
    refined = tmp_path / "refined" / "space"
    refined.mkdir(parents=True)
    (refined / "refined-inner-0_5.yaml").write_text(option)
    yield tmp_path
    for module in ("mine", "package", "package.module"):
        sys.modules.pop(module, None)


@pytest.mark.parametrize("name", [name for name in NAMES if commands(ROOT / name)])
def test_commands_compose(name: str, place: Path) -> None:
    for word, *rest in commands(ROOT / name):
        if word in COMPOSED:
            overrides = [one for one in rest if "=" in one and not one.startswith("hydra")]
            folder = place / "refined" if "--config-dir" in rest else None
            for given in compose(overrides, config=COMPOSED[word], folder=folder):
                RunConfig.of(given)


@pytest.mark.parametrize("word", ["export", "report"])
def test_flags_of_commands_are_known(word: str, explore) -> None:
    text = explore(word, "--help")[1]
    used = {flag for name in NAMES for first, *rest in commands(ROOT / name) if first == word for flag in rest}
    assert {flag for flag in used if flag.startswith("--")} <= set(re.findall(r"--[\w-]+", text))


def _keys(name: str) -> str:
    """Return what stands in backticks on a page and is no Python."""
    return "\n".join(span for span in spans(ROOT / name) if "(" not in span)


@pytest.mark.parametrize("name", NAMES)
def test_keys_in_the_text_are_keys_of_the_configuration(name: str) -> None:
    known = {**defaults("run"), **defaults("population")}
    sections = {group: [defaults(f"{group}/{option}") for option in options_of(group)] for group in GROUPS}
    for key, value in re.findall(r"(?<![\w.+/])([a-z_]+(?:\.[a-z_]+)*)=(\S*)", _keys(name)):
        first, _, rest = key.partition(".")
        if first in GROUPS and not rest:
            assert all(one in options_of(first) for one in value.split(",") if one), f"{name}: {key}={value}"
        elif first in GROUPS:
            section = known.get(first) or {}
            assert rest in section or any(rest in one for one in sections[first]) or rest == "_target_", (
                f"{name}: {key}"
            )
        elif first in known and first != "hydra":
            assert not rest or rest.partition(".")[0] in (known[first] or {}), f"{name}: {key}"


def test_the_table_of_keys_names_every_option_of_every_group() -> None:
    table = rows((ROOT / "docs" / "runs.md").read_text())
    for group in GROUPS:
        (row,) = [cells[1] for cells in table if cells[1].startswith(f"`{group}=`")]
        missing = [option for option in options_of(group) if not re.search(rf"\b{option}\b", row)]
        assert not missing, f"{group}: {missing}"
