"""Tables and figures of results; nothing here trains, samples or knows a model.

Functions take the rows of kept models, `Results` or arrays. What they draw they return
as a `matplotlib.figure.Figure`, and they leave matplotlib as they find it.
"""

from lvm_jax.report.figures import (
    plot_by_epoch,
    plot_full_recovery,
    plot_measure,
    plot_recovered,
    plot_recovered_by_epoch,
)
from lvm_jax.report.latents import plot_pictures, plot_similarity, plot_trees
from lvm_jax.report.standard import write
from lvm_jax.report.style import save
from lvm_jax.report.summary import (
    Interval,
    Summary,
    difference_interval,
    format_differences,
    format_table,
    mean_interval,
    paired_interval,
    share_interval,
    summarise,
)

__all__ = [
    "Interval",
    "Summary",
    "difference_interval",
    "format_differences",
    "format_table",
    "mean_interval",
    "paired_interval",
    "plot_by_epoch",
    "plot_full_recovery",
    "plot_measure",
    "plot_pictures",
    "plot_recovered",
    "plot_recovered_by_epoch",
    "plot_similarity",
    "plot_trees",
    "save",
    "share_interval",
    "summarise",
    "write",
]
