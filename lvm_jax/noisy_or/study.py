"""The hyperparameters of every published cell of the study.

The study tuned them for each data set and level: one rate for both networks, and one
for the critic. Source: the settings of the authors' published release, of which
`STUDY` and `STUDY_LARGE_BATCH` are settings of a plan, by data set.
"""

from collections.abc import Sequence

from lvm_jax.noisy_or.nvil import NvilHyperparams
from lvm_jax.types import Dataset

_LARGE_BATCH = 1000
_EVERY = 100  # epochs between two models that may be kept
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

_SAME_AS = {"UNIF-DRAWN": "UNIF"}  # data sets that are ours
_SNAPSHOT_EVERY = {"PLNT": 25}  # where it is another number


def published(
    dataset: Dataset, levels: Sequence[int], batch_size: int = 20
) -> tuple[dict[int, NvilHyperparams] | None, int]:
    """How the study learned a data set of its own, or of the same kind.

    Args:
      dataset: any.
      levels: to be learned. One that the study does not have gets the hyperparameters
        of the nearest smaller one, or of the smallest.
      batch_size: from 1000 on those of large batches, where the study has them.

    Returns:
      A setting, None where the study has none for the data set; and the epochs between
      two models that may be kept.
    """
    tables = [STUDY_LARGE_BATCH] if batch_size >= _LARGE_BATCH else []
    name = _SAME_AS.get(dataset.name, dataset.name)
    found = [table[name] for table in (*tables, STUDY) if name in table]
    if dataset.recipe is None or not found:
        return None, _EVERY
    of_levels = {
        level: found[0][max((k for k in found[0] if k <= level), default=min(found[0]))]
        for level in levels
    }
    return of_levels, _SNAPSHOT_EVERY.get(dataset.name, _EVERY)
