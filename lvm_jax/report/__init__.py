"""Tables and figures of results; nothing here trains, samples or knows a model.

Functions take the rows of kept models, `Results` or arrays. What they draw they return
as a `matplotlib.figure.Figure`, and they leave matplotlib as they find it.
"""

from lvm_jax.files.table import read_rows
from lvm_jax.report.by_epoch import plot_by_epoch, plot_recovered_by_epoch
from lvm_jax.report.by_level import (
    plot_data_sets,
    plot_full_recovery,
    plot_measure,
    plot_recovered,
)
from lvm_jax.report.comparison import (
    Comparison,
    adjust,
    compare,
    format_differences,
    holm,
)
from lvm_jax.report.intervals import (
    Interval,
    difference_interval,
    mean_interval,
    mean_intervals,
    paired_interval,
    share_difference_interval,
    share_interval,
)
from lvm_jax.report.latents import (
    plot_moments,
    plot_pictures,
    plot_similarity,
    plot_trees,
)
from lvm_jax.report.pool import Pooled, pool
from lvm_jax.report.recurring import (
    format_calibration,
    format_latents,
    format_levels,
    latent_rows,
    plot_agreement,
    plot_calibration,
    plot_latents,
    plot_shares,
)
from lvm_jax.report.rows import add_shares
from lvm_jax.report.standard import write
from lvm_jax.report.style import save
from lvm_jax.report.summary import Summary, format_table, summarise

__all__ = [
    "Comparison",
    "Interval",
    "Pooled",
    "Summary",
    "add_shares",
    "adjust",
    "compare",
    "difference_interval",
    "format_calibration",
    "format_differences",
    "format_latents",
    "format_levels",
    "format_table",
    "holm",
    "latent_rows",
    "mean_interval",
    "mean_intervals",
    "paired_interval",
    "plot_agreement",
    "plot_by_epoch",
    "plot_calibration",
    "plot_data_sets",
    "plot_full_recovery",
    "plot_latents",
    "plot_measure",
    "plot_moments",
    "plot_pictures",
    "plot_recovered",
    "plot_recovered_by_epoch",
    "plot_shares",
    "plot_similarity",
    "plot_trees",
    "pool",
    "read_rows",
    "save",
    "share_difference_interval",
    "share_interval",
    "summarise",
    "write",
]
