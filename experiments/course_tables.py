r"""Tables of the course of learning, from two traced sweeps of the same runs.

    python -m experiments.course_tables --early runs/dynamics/IMG_early \
        --late runs/dynamics/IMG_late --tables experiments/dynamics

Writes states.csv (how many latents are what, by epoch), moments.csv (the same of every
run, at the moments that the rule names), agreement.csv (assignments that are those of
the end), settled.csv (since when each truth is assigned for good), starts.csv (how near
latents were to what they became), contentions.csv (who is left) and contenders.csv
(whether they are parts of a truth or copies). Three minutes.
"""

import pathlib
from collections.abc import Iterable
from typing import Any

from absl import flags

import lvm_jax
from experiments import cli, course
from lvm_jax import noisy_or
from lvm_jax.files import table

_EARLY = flags.DEFINE_string(
    "early", None, "Workdir of the first sweep.", required=True
)
_LATE = flags.DEFINE_string("late", None, "Workdir of the second.", required=True)
_TABLES = flags.DEFINE_string(
    "tables", "experiments/dynamics", "Folder that tables are written into."
)
_DATASET, _NUM_SAMPLES = "IMG", 10_000


def _write(name: str, rows: Iterable[dict[str, Any]]) -> None:
    table.write_rows(pathlib.Path(_TABLES.value) / f"{name}.csv", list(rows))


def main() -> None:
    """Reads both sweeps and writes the tables."""
    task = noisy_or.task(noisy_or.make(_DATASET, lvm_jax.key(0), _NUM_SAMPLES))
    early, late = lvm_jax.load(_EARLY.value), lvm_jax.load(_LATE.value)
    of_levels = course.courses(task, early, late)
    starts = course.at_start(task, early.plan)
    pathlib.Path(_TABLES.value).mkdir(parents=True, exist_ok=True)
    for name, rows in (
        ("states", course.state_rows),
        ("moments", course.moment_rows),
        ("agreement", course.agreement_rows),
        ("settled", course.settled_rows),
        ("contentions", course.contention_rows),
        ("contenders", course.contender_rows),
    ):
        _write(name, [row for item in of_levels.items() for row in rows(*item)])
    _write(
        "starts",
        [
            row
            for level, of_level in of_levels.items()
            for row in course.start_rows(level, of_level, starts[level])
        ],
    )
    print(f"tables are in {_TABLES.value}")


if __name__ == "__main__":
    cli.run(main)
