"""Results of the same plan on several samples, as one that can be reported on."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from lvm_jax.report.rows import DATA_SEED, Row, is_counted


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pooled:
    """What a report reads of results, of runs on the samples of M data seeds.

    Attributes:
      name: of the data.
      plan: that was trained on each sample.
      epochs: [E].
      history: [L, S, M, E] by column: the mean over the runs on a sample that have not
        diverged; of a count, over all runs.
      num_truths: of each sample; None if no truth is known.
      parts: the results by data seed.
    """

    name: str
    plan: Any
    epochs: np.ndarray
    history: dict[str, np.ndarray]
    num_truths: int | None
    parts: Mapping[int, Any]

    def kept_rows(self, **measures: np.ndarray) -> list[Row]:
        """The rows of all parts, with a column of their data seed.

        Args:
          **measures: [M, L, S, R] each, in the order of the parts. Further columns.
        """
        rows = []
        for index, (seed, part) in enumerate(self.parts.items()):
            own = {name: of[index] for name, of in measures.items()}
            for row in part.kept_rows(**own):
                dataset = {"dataset": row["dataset"], DATA_SEED: seed}
                rows.append({**dataset, **row})
        return rows


def pool(results: Mapping[int, Any]) -> Pooled:
    """The results on several samples as one, whose intervals are over samples.

    Args:
      results: of training, by the data seed of their sample.

    Raises:
      ValueError: if there are none, or they differ in plan, epochs, columns or the
        number of truths.
    """
    if not results:
        raise ValueError("expected results of at least one sample, got none")
    first, *others = parts = list(results.values())
    for other in others:
        if (
            other.plan.expanded() != first.plan.expanded()
            or other.num_truths != first.num_truths
            or not np.array_equal(other.epochs, first.epochs)
            or other.history.keys() != first.history.keys()
        ):
            raise ValueError(
                "expected results of one plan, as long and with as many truths, got "
                f"others of data seeds {', '.join(map(str, results))}"
            )
    return Pooled(
        name=first.name,
        plan=first.plan,
        epochs=first.epochs,
        history={
            column: np.stack([_mean_run(part, column) for part in parts], axis=2)
            for column in first.history
        },
        num_truths=first.num_truths,
        parts=results,
    )


def _mean_run(results: Any, column: str) -> np.ndarray:
    """[L, S, E]. The mean of a column [L, S, R, E] over runs."""
    values, diverged = results.history[column], results.history["diverged"]
    if column == "diverged":
        return values.all(axis=2)
    counted = is_counted(column, diverged)
    number = counted.sum(axis=2)
    total = np.sum(values, axis=2, where=counted, dtype=float)
    return np.divide(total, number, out=np.zeros(total.shape), where=number > 0)
