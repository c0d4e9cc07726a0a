"""Training networks: dense ones, sub-networks in stretches that can be interrupted, and batch-norm statistics."""

from explorer.training.checkpoints import Checkpoints
from explorer.training.distillation import distance
from explorer.training.memory import is_out_of_memory, within_memory
from explorer.training.seeding import epoch_of, seed_of, seeded
from explorer.training.settings import OPTIMIZERS, PRECISIONS, Settings
from explorer.training.statistics import reestimate_bn
from explorer.training.trainer import Epoch, Trainer, train

__all__ = [
    "OPTIMIZERS",
    "PRECISIONS",
    "Checkpoints",
    "Epoch",
    "Settings",
    "Trainer",
    "distance",
    "epoch_of",
    "is_out_of_memory",
    "reestimate_bn",
    "seed_of",
    "seeded",
    "train",
    "within_memory",
]
