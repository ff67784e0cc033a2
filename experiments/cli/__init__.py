"""What binaries share: flags of data and of a sweep; one line for an error."""

from experiments.cli.data import MAX_SAMPLES, Data, Drawn, Own
from experiments.cli.definitions import (
    LARGEST,
    define_levels,
    define_numbers,
    refuse,
)
from experiments.cli.recurring import Recurring
from experiments.cli.report import mean_of_truths, pictured, report
from experiments.cli.run import run
from experiments.cli.sweep import Sweep, Trained

__all__ = [
    "LARGEST",
    "MAX_SAMPLES",
    "Data",
    "Drawn",
    "Own",
    "Recurring",
    "Sweep",
    "Trained",
    "define_levels",
    "define_numbers",
    "mean_of_truths",
    "pictured",
    "refuse",
    "report",
    "run",
]
