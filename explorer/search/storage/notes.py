"""Notes: what optuna-dashboard shows beside a trial, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping

import optuna

from explorer.search.optuna_private import storage_id, storage_of, study_id

__all__ = ["write_notes"]

# of an attribute's text, which some databases limit
_LENGTH = 2045


def write_notes(study: optuna.Study, notes: Mapping[int, str]) -> None:
    """Write notes on trials where optuna-dashboard looks for them: in parts, among the study's attributes.

    They are read with every study's attributes, so that they are for a few trials only. One that is there already is
    not written again.

    Parameters
    ----------
    study
        The study.
    notes
        Markdown by the trial's number.
    """
    storage, identifier = storage_of(study), study_id(study)
    known = storage.get_study_system_attrs(identifier)
    trials = study.get_trials(deepcopy=False)
    for number, body in notes.items():
        prefix = f"dashboard:{storage_id(trials[number])}:"
        parts = [body[start : start + _LENGTH] for start in range(0, len(body), _LENGTH)]
        written = {f"{prefix}note_str:{place}": part for place, part in enumerate(parts)}
        there = {key: part for key, part in known.items() if key.startswith(f"{prefix}note_str:") and part}
        if there == written:
            continue
        # a shorter note leaves no end of a longer one
        for key, part in {**dict.fromkeys(there, ""), **written}.items():
            storage.set_study_system_attr(identifier, key, part)
        storage.set_study_system_attr(identifier, f"{prefix}note_ver", known.get(f"{prefix}note_ver", 0) + 1)
