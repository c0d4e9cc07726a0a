"""scikit-learn's digits: the data set that needs neither a download nor a folder."""

from __future__ import annotations

import numpy as np
import torch

from explorer.data.split import Data, Split, fingerprint, stratified
from explorer.utils.checks import checked_number

__all__ = ["load_digits"]

VALIDATION = 397
TEST = 400
SPLIT_SEED = 0


def load_digits(*, seed: int = 0) -> Data:
    """Return the 1797 handwritten digits, 1x8x8 in 0..1: 1000 to train, 397 to validate, 400 to test.

    Parameters
    ----------
    seed
        Which of the images that are not for test are validated on.

    Raises
    ------
    PruningError
        If the seed is no whole number from 0 on.
    """
    checked_number("data.seed", seed, least=0)
    # imported here: scikit-learn takes longer to import than the digits to load
    from sklearn import datasets

    bunch = datasets.load_digits()
    images = torch.from_numpy(bunch.images).float().div_(16).unsqueeze(1)
    labels = np.asarray(bunch.target, dtype=np.int64)
    whole = Split(images, torch.from_numpy(labels))
    rest, test = stratified(labels, TEST, generator=np.random.default_rng(SPLIT_SEED))
    inner, chosen = stratified(labels[rest], VALIDATION, generator=np.random.default_rng(seed))
    train, validation, held_out = (whole.subset(torch.from_numpy(rows)) for rows in (rest[inner], rest[chosen], test))
    return Data(
        name="digits",
        train=train,
        validation=validation,
        test=held_out,
        classes=10,
        mean=(round(train.inputs.mean().item(), 4),),
        std=(round(train.inputs.std().item(), 4),),
        identity=fingerprint(train, validation, held_out),
        crop=1,
        flip=False,
    )
