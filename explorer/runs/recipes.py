"""Recipes that a configuration names by a file: read into it, so that what is written of a run needs no other file."""

from __future__ import annotations

from explorer.runs.composing import Composed
from explorer.utils.space_section import recipe_given
from spaces import PruningError, Recipe, space_file_around

__all__ = ["self_contained"]


def self_contained(given: Composed) -> Composed:
    """Return a configuration with the recipes of ``recipe`` and ``space.around`` in place of their files.

    With ``recipe`` the space is that recipe alone, and of the rungs the last: there is nothing to promote among.

    Raises
    ------
    PruningError
        If a file holds no recipe, or one that keeps everything, or recipes are to be drawn.
    """
    space, evaluator = given["space"], given["evaluator"]
    if space.get("around") is not None and not ("recipe" in space["around"] and isinstance(space["around"], dict)):
        space = space | {"around": recipe_given("space.around", space["around"])}
    if given["recipe"] is None:
        return given | {"space": space}
    if "regime" in given:
        raise PruningError(f"recipe: {str(given['recipe'])!r}, allowed is null where recipes are drawn")
    if space.get("around") is not None:
        raise PruningError("recipe: given, and so is space.around, allowed is one of them")
    recipe = Recipe.from_dict(recipe_given("recipe", given["recipe"]))
    if isinstance(evaluator.get("rungs"), list):
        evaluator = evaluator | {"rungs": evaluator["rungs"][-1:]}
    return given | {"recipe": None, "space": {"name": "recipe", **space_file_around(recipe)}, "evaluator": evaluator}
