"""What binaries share: flags of data and of a sweep; one line for an error."""

from experiments.cli.data import MAX_SAMPLES, Data, Drawn, Own
from experiments.cli.run import run
from experiments.cli.sweep import LARGEST, Sweep, define_levels, pictured

__all__ = [
    "LARGEST",
    "MAX_SAMPLES",
    "Data",
    "Drawn",
    "Own",
    "Sweep",
    "define_levels",
    "pictured",
    "run",
]
