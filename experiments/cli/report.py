"""What a binary prints, and writes beside what training has: the report."""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

import lvm_jax
from experiments.cli.sweep import Trained
from lvm_jax import report as reports
from lvm_jax.files import table
from lvm_jax.training import workdir as layout
from lvm_jax.types import Level, Task

# Further columns of kept models.
Measure = Callable[[lvm_jax.Results, Task], dict[str, np.ndarray]]


def report(
    workdir: pathlib.Path,
    trained: Mapping[int, Trained],
    headers: Mapping[str, str] | None = None,
    *,
    measures: Measure | None = None,
    limits: Mapping[str, tuple[float, float]] | None = None,
    truth: Mapping[str, float | None] | None = None,
    figures: Mapping[str, Callable[[], Any]] | None = None,
    digits: int = 2,
) -> None:
    """Prints the table, and writes it and the figures.

    Args:
      workdir: where it is written.
      trained: of `Sweep.train_each`.
      headers: label of each measure by column, "label, unit" where it has one; the
        held-out columns if None.
      measures: (results, task) -> {column: [level, setting, seed]}, further ones.
      limits: the least and the largest value possible, of columns that have such.
      truth: measures of the true model by column, None where they are not known.
      figures: further ones by file name, each made when it is called.
      digits: decimals of the measures.
    """
    results, columns = _pool(trained, measures)
    known = {
        column: value for column, value in (truth or {}).items() if value is not None
    }
    table.write_rows(workdir / layout.KEPT, results.kept_rows(**columns))
    try:
        text = reports.write(
            results,
            workdir / layout.FIGURES,
            measures=columns,
            headers=headers,
            limits=limits,
            truth=known,
            figures=figures,
            digits=digits,
        )
    except ValueError as error:
        print(*getattr(error, "__notes__", []), sep="\n")
        raise
    print(text)
    for column, value in known.items():
        label, _, unit = (headers or {}).get(column, column).partition(", ")
        print(f"{label} of the truth: {value:.{digits}f} {unit}".rstrip())
    print(f"tables, parameters and figures are in {workdir}")


def _pool(
    trained: Mapping[int, Trained], measures: Measure | None
) -> tuple[lvm_jax.Results | reports.Pooled, dict[str, np.ndarray]]:
    """Results to report on, of one sample or of several, and their further columns."""
    measured = [measures(*of) if measures else {} for of in trained.values()]
    parts = {seed: of.results for seed, of in trained.items()}
    if len(parts) == 1:
        return next(iter(parts.values())), measured[0]
    columns = {name: np.stack([of[name] for of in measured]) for name in measured[0]}
    return reports.pool(parts), columns


def mean_of_truths(
    function: Callable[[Task], float | None], trained: Mapping[int, Trained]
) -> float | None:
    """A measure of the true model, over data seeds; None if it is known of none."""
    values = [function(task) for _, task in trained.values()]
    return None if None in values else float(np.mean(values))


def pictured(results: lvm_jax.Results) -> tuple[Level, Any, Any]:
    """A run for pictures: the first one, at the first level with latents to spare.

    Returns:
      Its level, and `params` and `live` of the model that it keeps.
    """
    levels = results.plan.levels
    num_truths = results.num_truths or 0
    spare = (k for k in levels if jax.tree.leaves(k)[-1] > num_truths)
    level = next(spare, levels[0])
    return level, *results.kept_model(level)
