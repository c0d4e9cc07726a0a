"""The Python door: a keyword that nothing takes is one line with the nearest spelling, whatever is called."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch

import explorer
from explorer.study import Candidate, Study
from explorer.utils.keywords import keywords_of
from spaces import PruningError

BATCHES = [(torch.zeros(4, 2), torch.tensor([0, 1, 0, 1]))]
MODEL = torch.nn.Linear(2, 2)
CALLS: dict[str, tuple[Callable[..., Any], str]] = {
    "explore: 'budgt' is unknown, did you mean 'budget'": (explorer.explore, "budgt"),
    "population: 'budgt' is unknown, did you mean 'budget'": (explorer.population, "budgt"),
    "population: 'critrion' is unknown, did you mean 'criterion'": (explorer.population, "critrion"),
    "population: 'space' is unknown, did you mean 'spaces'": (explorer.population, "space"),
    "load: 'exampel' is unknown, did you mean 'example'": (explorer.load, "exampel"),
    "save: 'facto' is unknown, did you mean 'factory'": (explorer.save, "facto"),
    "trace: 'nam' is unknown, did you mean 'name'": (explorer.trace, "nam"),
    "classification: 'clases' is unknown, did you mean 'classes'": (explorer.classification, "clases"),
    "Task: 'higher_better' is unknown, did you mean 'higher_is_better'": (explorer.Task, "higher_better"),
    "Candidate.save: 'modul' is unknown, did you mean 'module'": (Candidate.save, "modul"),
    "Study.plot: 'y' is unknown": (Study.plot, "y"),
    "Study.frontier_at: 'rng' is unknown, did you mean 'rung'": (Study.frontier_at, "rng"),
}


@pytest.mark.parametrize("message", CALLS)
def test_an_unknown_keyword_is_one_line(message: str) -> None:
    function, keyword = CALLS[message]
    with pytest.raises(PruningError, match=re.escape(message)) as caught:
        function(MODEL, BATCHES, BATCHES, **{keyword: 1})
    assert "\n" not in str(caught.value)


def test_a_checked_function_is_seen_as_it_is() -> None:
    assert keywords_of(explorer.load) == ["folder", "model", "example", "allow", "trust"]
    assert inspect.signature(explorer.load).parameters["trust"].default is False
    assert (explorer.explore.__doc__ or "").startswith("Explore the sub-networks")
    assert keywords_of(explorer.Task)[:2] == ["loss", "metric"]
