"""The private names of Optuna that this project uses, all of them here: a new Optuna is checked against this file."""

from __future__ import annotations

import copy

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial

__all__ = ["contains", "storage_id", "storage_of", "study_id", "with_storage"]


def storage_of(study: optuna.Study) -> BaseStorage:
    """Return the storage that a study is kept in."""
    return study._storage


def study_id(study: optuna.Study) -> int:
    """Return the number of a study in its storage."""
    return study._study_id


def storage_id(trial: FrozenTrial) -> int:
    """Return the number of a trial in its storage; `trial.number` is that in its study."""
    return trial._trial_id


def with_storage(study: optuna.Study, storage: BaseStorage) -> optuna.Study:
    """Return a copy of a study that reads and writes another storage."""
    view = copy.copy(study)
    view._storage = storage
    return view


def contains(distribution: BaseDistribution, value: float) -> bool:
    """Tell whether a value, in the storage's representation, is one of a distribution."""
    return distribution._contains(value)
