"""`explorer.population`, from Python: populations of a trained module's sub-networks, evaluated alike and analysed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from explorer.analysis.plots import population_figures
from explorer.analysis.populations import Analysis, Population, analyse, findings, structure_bands
from explorer.api.exploring import explore
from explorer.search.drawing import Drawing
from explorer.study import Study
from explorer.utils.checks import checked_number
from explorer.utils.conf import chosen, primary
from explorer.utils.keywords import keywords_of
from spaces import Budget, PruningError, PruningSpace, Refinement, refine, unknown

__all__ = ["Populations", "population"]

Space = str | Mapping[str, Any] | PruningSpace

# what explore is told besides, for it says how a space is searched
_REFUSED = ("trials", "sampler", "options", "ladder", "drawing", "warm_start", "final", "test", "baselines")


@dataclass(frozen=True, eq=False)
class Populations:
    """What populations tell.

    Attributes
    ----------
    regimes
        Their regimes by name: the space, and the share of the FLOPs.
    studies
        Their evaluations by name.
    analysis
        Their tables, such as ``analysis.tables["conjectures"]``.
    """

    regimes: Mapping[str, Budget]
    studies: Mapping[str, Study]
    analysis: Analysis

    def __repr__(self) -> str:
        return f"<Populations: {', '.join(map(repr, self.analysis.populations))}>"

    def findings(self) -> str:
        """Return the findings in words, as Markdown."""
        return findings(self.analysis, error=next(iter(self.studies.values())).problem.scale.error)

    def figures(self) -> dict[str, Figure]:
        """Return the figures by name."""
        return population_figures(self.analysis, next(iter(self.studies.values())).problem.scale.error)

    def refine(self, name: str) -> Refinement:
        """Return the space of a population, refined by its winners within its regime.

        ``PruningSpace.from_config(network, refinement.config)`` is the space.
        """
        if name not in self.studies:
            raise PruningError(f"refine: {name!r} is no population, allowed are {', '.join(self.studies)}")
        problem = self.studies[name].problem
        space = problem.space
        bands = structure_bands(self.analysis.tables["bands"], name, [axis.label for axis in space.axes])
        return refine(space, bands, np.random.default_rng(0), budget=problem.limits & self.regimes[name])


def population(
    model: nn.Module | Callable[[], nn.Module] | str,
    train: Iterable[Any],
    validation: Iterable[Any],
    *,
    spaces: Space | Sequence[Space] | None = None,
    regimes: float | Sequence[float] | None = (0.5,),
    tol: float | None = None,
    n: int | None = None,
    strata: int = 1,
    draw: int = 0,
    budget: Mapping[str, Any] | None = None,
    folder: str | Path | None = None,
    **settings: Any,
) -> Populations:
    """Draw a population of every space in every regime, evaluate all alike, and return what they tell.

    What is not given is as in conf/, as for the command ``explore population``.

    Parameters
    ----------
    model, train, validation
        As `explorer.explore` takes them.
    spaces
        One or several: names of conf/space, files ending in .yaml, mappings, or spaces bound to the model's Network.
    regimes
        Shares of the dense network's FLOPs, one or several; None for the whole space.
    tol
        How far from them a recipe may be.
    n
        Recipes of each population.
    strata
        Into how many equal parts a regime's FLOPs are divided, each of which gives equally many recipes.
    draw
        Another number draws other recipes.
    budget
        Exact limits besides, as `explorer.explore` takes them.
    folder
        Where what candidates were trained to is kept; None keeps nothing.
    settings
        How recipes are evaluated: ``evaluator``, ``criterion``, ``task``, ``finetuning``, ``executor``, ``storage``,
        ``seed`` and others of `explorer.explore`. With a storage that stays, populations are resumed.

    Raises
    ------
    PruningError
        On any of the caller's mistakes, in one line.

    Examples
    --------
    ::

        found = explorer.population(model, train, validation, spaces=["inner", "filter"], regimes=[0.75, 0.5], n=128)
        print(found.findings())
        smaller = found.refine("inner 0.5").config
    """
    for key in _REFUSED:
        if key in settings:
            raise PruningError(f"{key}: {settings[key]!r}, a population has none: all of its n recipes are drawn")
    known = dict.fromkeys([*keywords_of(population), *keywords_of(explore)])
    for key in settings:
        if key == "space" or key not in known:
            raise unknown("population", key, [name for name in known if name not in ("space", *_REFUSED)])
    base = primary("population")
    n = base["n"] if n is None else n
    checked_number("n", n, least=2)
    tol = base["regime"]["tol"] if tol is None else tol
    asked = [spaces] if spaces is None or isinstance(spaces, str | Mapping | PruningSpace) else list(spaces)
    shares = list(regimes) if isinstance(regimes, Sequence) else [regimes]
    if not asked or not shares:
        raise PruningError("population: no space or no regime given, allowed are one or several of each")
    studies: dict[str, Study] = {}
    drawn: dict[str, Budget] = {}
    populations = []
    for share in shares:
        for place, space in enumerate(asked):
            drawing = Drawing(share, tol, strata, draw)
            study = explore(
                model,
                train,
                validation,
                space=space,
                budget=budget,
                trials=n,
                sampler="random",
                drawing=drawing,
                folder=None if folder is None else Path(folder),
                **settings,
            )
            name = _name(space, place, share)
            if name in studies:
                raise PruningError(f"population: two are called {name!r}, allowed are different spaces and regimes")
            studies[name], drawn[name] = study, drawing.budget
            shared = {
                "network": study.problem.space.network.name,
                "seed": settings.get("seed", base["seed"]),
                "space": _name(space, place, None),
                **({} if share is None else {"regime": share}),
            }
            mine = study.trials[study.trials["source"] == "population"]
            populations.append(Population.of(mine.assign(**shared), name, dense=study.problem.space.dense))
    return Populations(drawn, studies, analyse(populations))


def _name(space: Space | None, place: int, share: float | None) -> str:
    """Return what a population is called: its space, and the regime where there is one."""
    if space is None:
        name = chosen("space")
    elif isinstance(space, str):
        name = Path(space).stem
    else:
        name = f"space{place}"
    return name if share is None else f"{name} {share:g}"
