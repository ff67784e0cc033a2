"""How far training is, and one way to show it."""

import sys
from typing import NamedTuple

import tqdm

from lvm_jax.types import Level, level_name


class Moment(NamedTuple):
    """The last record of a level's runs at a setting, averaged over seeds.

    Attributes:
      level: of the runs.
      setting: of the runs.
      held_out: the first held-out metric.
      num_recovered: truths recovered; None without a truth.
    """

    level: Level
    setting: str
    held_out: float
    num_recovered: float | None


class Progress(NamedTuple):
    """What is known after a compiled call, and before the first one.

    Attributes:
      description: what the wave trains and needs.
      metric: name of the held-out metric of the moments.
      start: the epoch that the wave started from.
      epoch: the epoch reached; `start` before the first call.
      num_epochs: the epoch to reach.
      num_runs: of the wave.
      seconds: since the wave started.
      computing: of them, seconds inside compiled calls.
      moments: of each level and setting; none before the first call.
    """

    description: str
    metric: str
    start: int
    epoch: int
    num_epochs: int
    num_runs: int
    seconds: float
    computing: float
    moments: tuple[Moment, ...]


def show(progress: Progress) -> None:
    """Shows the plan on standard output, and a bar on standard error.

    On a terminal the bar stays in its line; elsewhere every call gets one.

    Args:
      progress: of this moment.
    """
    if not progress.moments:
        print(progress.description)
        print(f"by level: held-out {progress.metric} / truths recovered", flush=True)
        return
    done = progress.epoch - progress.start
    rate = progress.num_runs * done / max(progress.computing, 1e-9)
    bar = tqdm.tqdm.format_meter(
        progress.epoch,
        progress.num_epochs,
        progress.seconds,
        unit="epoch",
        initial=progress.start,
        postfix=f"{rate:.4g} runs x epochs/s, {_describe(progress.moments)}",
    )
    is_last = progress.epoch == progress.num_epochs
    if sys.stderr.isatty():
        print(f"\r{bar}", end="\n" if is_last else "", file=sys.stderr, flush=True)
    else:
        print(bar, file=sys.stderr, flush=True)
    if is_last:
        share = 100 * (1 - progress.computing / progress.seconds)
        print(
            f"{progress.seconds:.0f} s, of which {share:.1f}% on checkpoints and "
            "progress",
            flush=True,
        )


def _describe(moments: tuple[Moment, ...]) -> str:
    has_settings = len({moment.setting for moment in moments}) > 1
    parts = []
    for moment in moments:
        name = level_name(moment.level)
        if has_settings:
            name += f"[{moment.setting}]"
        text = f"{name}:{moment.held_out:.4g}"
        if moment.num_recovered is not None:
            text += f"/{moment.num_recovered:.1f}"
        parts.append(text)
    return " ".join(parts)
