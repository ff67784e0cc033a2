"""The records that every layer speaks: learners, runs and recovery.

Axis letters: R runs, N examples, B batch, D observed variables, K latents,
T true latents, E epochs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import chex

# A level of overparameterization: the number of latents, or a tuple of numbers
# where a model has latents of several kinds.
Level = int | tuple[int, ...]


class Dataset(NamedTuple):
    """Samples and the model that they were drawn from.

    Attributes:
      name: as shown in tables.
      samples: [N, ...].
      truth: parameters of the true model, whose latents are to be recovered. Of a
        misspecified data set, the part of them that a learner could recover.
    """

    name: str
    samples: chex.Array
    truth: Any


class Buckets(NamedTuple):
    """Training data in parts whose samples differ in shape, such as in length.

    A batch comes from one bucket. Which one a step takes depends on the epoch alone
    and is the same for all runs.

    Attributes:
      parts: trees of arrays [N, ...], of one structure, each with an N of its own.
    """

    parts: tuple[Any, ...]


class Info(NamedTuple):
    """What one step or one evaluation has measured.

    Attributes:
      objective: []. What learning maximises, in nats or in the learner's own
        units. Runs are snapshotted by its held-out value, and a run whose
        objective is not finite has diverged.
      metrics: scalars by name. A step's are averaged over the epoch and
        reported as `train_<name>`, an evaluation's as `held_out_<name>`.
    """

    objective: chex.Array
    metrics: dict[str, chex.Array]


class Learner(NamedTuple):
    """A learning algorithm as a record of pure functions.

    `live` masks the latents of a run: a run of level k inside a group of width K
    has k ones and K - k zeros. A dead latent must contribute nothing to loss,
    gradient, count or draw, so that results do not depend on the width.

    Attributes:
      init: (key, live) -> state. The state has a field `params`, the learned
        parameters: a tree of arrays whose latent axis, if any, comes first.
      step: (key, state, live, batch) -> (state, Info). One update.
      evaluate: (key, state, live, data) -> Info. Measures without learning.
    """

    init: Callable[..., Any]
    step: Callable[..., tuple[Any, Info]]
    evaluate: Callable[..., Info]


class Recovery(NamedTuple):
    """Which true latents a learned model has recovered.

    Attributes:
      matched: [T] int. The learned latent that recovers each truth, else -1.
      kept: [K] bool. Learned latents that survive the filter.
      discarded: [K] bool. Live latents that the filter finds unused.
      duplicate: [K] bool. Live latents that the filter finds to repeat another.
      num_recovered: [] int. Truths matched by any live latent.
      num_kept: [] int. Latents that survive the filter.
      num_recovered_after_filter: [] int. Truths matched by survivors alone.
      measures: [] each. Further scalars of the model's own, by name.
    """

    matched: chex.Array
    kept: chex.Array
    discarded: chex.Array
    duplicate: chex.Array
    num_recovered: chex.Array
    num_kept: chex.Array
    num_recovered_after_filter: chex.Array
    measures: dict[str, chex.Array]

    def scalars(self) -> dict[str, chex.Array]:
        """What tables show of it, by column."""
        return {
            "num_recovered": self.num_recovered,
            "num_kept": self.num_kept,
            "num_recovered_after_filter": self.num_recovered_after_filter,
            **self.measures,
        }
