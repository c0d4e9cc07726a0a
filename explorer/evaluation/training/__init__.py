"""Training networks: dense ones, sub-networks in stretches that can be interrupted, and batch-norm statistics."""

from explorer.evaluation.training.checkpoints import Checkpoints
from explorer.evaluation.training.distillation import distance
from explorer.evaluation.training.identity import identity_of
from explorer.evaluation.training.memory import is_out_of_memory, within_memory
from explorer.evaluation.training.optimization import precision_of
from explorer.evaluation.training.seeding import epoch_of, seed_of, seeded
from explorer.evaluation.training.statistics import reestimate_bn
from explorer.evaluation.training.trainer import Epoch, Trainer, train

__all__ = [
    "Checkpoints",
    "Epoch",
    "Trainer",
    "distance",
    "epoch_of",
    "identity_of",
    "is_out_of_memory",
    "precision_of",
    "reestimate_bn",
    "seed_of",
    "seeded",
    "train",
    "within_memory",
]
