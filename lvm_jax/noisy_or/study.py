"""The hyperparameters of every published cell of the study.

With a recognition network the study tuned them for each data set and level: one rate
for both networks, and one for the critic. Source: the settings of the authors'
published release, of which `STUDY`, `STUDY_LARGE_BATCH` and those of other learners are
settings of a plan, by data set.
"""

from collections.abc import Sequence
from typing import NamedTuple

from lvm_jax.noisy_or.em import EmHyperparams, GradientEmHyperparams
from lvm_jax.noisy_or.mean_field import MeanFieldHyperparams
from lvm_jax.noisy_or.nvil import NvilHyperparams
from lvm_jax.types import Dataset, Hyperparams

_LARGE_BATCH = 1000
_LEVELS = (8, 16, 32, 64, 128)


def _setting(levels, rates, critic_rates):
    return {
        level: NvilHyperparams(rate, rate, critic_rate)
        for level, rate, critic_rate in zip(levels, rates, critic_rates, strict=True)
    }


# Batches of 20, 1000 epochs.
STUDY = {
    "IMG": _setting(_LEVELS, [0.04] * 5, [1e-4, 1e-4, 1e-4, 4e-3, 1e-3]),
    "UNIF": _setting(_LEVELS, [0.1] * 5, [1e-4, 1e-4, 1e-4, 1e-3, 1e-2]),
    "CON8": _setting(_LEVELS, [0.1] * 5, [1e-5, 1e-4, 1e-4, 1e-3, 1e-2]),
    "CON24": _setting(_LEVELS, [1e-3] + [0.1] * 4, [1e-4, 1e-4, 1e-3, 1e-3, 1e-2]),
    "PLNT": _setting(_LEVELS, [0.1] + [0.01] * 4, [1e-5, 1e-5, 1e-4, 1e-4, 1e-4]),
    "IMG-FLIP": _setting((8, 9, 10, 16), [0.04] * 4, [1e-4, 1e-4, 1e-3, 1e-4]),
    "IMG-UNIF": _setting((8, 9, 16, 32), [0.01] + [0.04] * 3, [1e-4] * 4),
}

# Batches of 1000, 2000 epochs for IMG.
STUDY_LARGE_BATCH = {
    "IMG": _setting(_LEVELS[:3], [0.1] * 3, [1e-4, 1e-3, 1e-3]),
    "UNIF": _setting(_LEVELS[:3], [0.4] * 3, [1e-4, 1e-5, 1e-4]),
    "CON8": _setting(_LEVELS[:3], [0.4] * 3, [1e-5, 1e-5, 1e-4]),
    "CON24": _setting(_LEVELS[:3], [0.1] * 3, [1e-4, 1e-3, 1e-4]),
    "PLNT": _setting(_LEVELS[:3], [0.01] * 3, [1e-3, 1e-3, 1e-4]),
}


def _everywhere(hyperparams):
    """The same for all data sets that are well specified, and levels up to 32."""
    names = ("IMG", "UNIF", "CON8", "CON24", "PLNT")
    return {name: dict.fromkeys(_LEVELS[:3], hyperparams) for name in names}


# Batches of 1, 2 epochs, PLNT 3.
STUDY_MEAN_FIELD = _everywhere(MeanFieldHyperparams(0.01))

# All samples in a step, 100 epochs.
STUDY_EM = _everywhere(EmHyperparams())
STUDY_GRADIENT_EM = _everywhere(GradientEmHyperparams())


class Training(NamedTuple):
    """How the study trains with a learner.

    Attributes:
      batch_size: samples of one step; None for all.
      num_epochs: passes over the training samples.
      snapshot_every: epochs between two models that may be kept.
    """

    batch_size: int | None
    num_epochs: int
    snapshot_every: int


_SAME_AS = {"UNIF-DRAWN": "UNIF"}  # data sets that are ours
_TABLES = {
    "nvil": STUDY,
    "mean_field": STUDY_MEAN_FIELD,
    "em": STUDY_EM,
    "gradient_em": STUDY_GRADIENT_EM,
}
_TRAINING = {
    "nvil": Training(20, 1000, 100),
    "mean_field": Training(1, 2, 1),
    "em": Training(None, 100, 1),
    "gradient_em": Training(None, 100, 1),
}
# Where it is another number.
_OF_DATASET = {
    ("nvil", "PLNT"): {"snapshot_every": 25},
    ("mean_field", "PLNT"): {"num_epochs": 3},
}


def training(dataset: Dataset, learner: str = "nvil") -> Training:
    """How the study trained with a learner on a data set, or trains on most.

    Args:
      dataset: any.
      learner: one of "nvil", "mean_field", "em" and "gradient_em".

    Raises:
      ValueError: if the study has no such learner.
    """
    if learner not in _TRAINING:
        raise ValueError(
            f"expected a learner of the study, {', '.join(_TRAINING)}, got {learner!r}"
        )
    known = dataset.recipe is not None
    changes = _OF_DATASET.get((learner, dataset.name), {}) if known else {}
    return _TRAINING[learner]._replace(**changes)


def published(
    dataset: Dataset,
    levels: Sequence[int],
    batch_size: int = 20,
    learner: str = "nvil",
) -> tuple[dict[int, Hyperparams] | None, int]:
    """How the study learned a data set of its own, or of the same kind.

    Args:
      dataset: any.
      levels: to be learned. One that the study does not have gets the hyperparameters
        of the nearest smaller one, or of the smallest.
      batch_size: from 1000 on those of large batches, where the study has them.
      learner: one of "nvil", "mean_field", "em" and "gradient_em".

    Returns:
      A setting, None where the study has none for the data set; and the epochs between
      two models that may be kept.

    Raises:
      ValueError: if the study has no such learner.
    """
    snapshot_every = training(dataset, learner).snapshot_every
    name = _SAME_AS.get(dataset.name, dataset.name)
    own = _TABLES[learner].get(name)
    if learner == "nvil" and batch_size >= _LARGE_BATCH:
        own = STUDY_LARGE_BATCH.get(name, own)
    if dataset.recipe is None or own is None:
        return None, snapshot_every
    of_levels = {
        level: own[max((k for k in own if k <= level), default=min(own))]
        for level in levels
    }
    return of_levels, snapshot_every
