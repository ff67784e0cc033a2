r"""Why do larger models recover more? The claims, decided on the committed tables.

    python -m experiments.dynamics_claims

Reads the tables in experiments/dynamics/, decides by the rule in
experiments/dynamics.md, prints the tables that stand there, and draws the figures into
experiments/figures/. Half a minute. What has no table is named.
"""

import functools
from collections.abc import Callable, Iterator

from matplotlib.figure import Figure

from experiments.cli.claims import Claims, decide
from experiments.cli.tables import Tables
from experiments.cli.verdicts import Block
from experiments.course_claims import (
    contenders,
    moments,
    plot_settled,
    plot_states,
    settled,
    starts,
)
from experiments.noise_claims import DATASETS as NOISE
from experiments.noise_claims import noise, plot_noise
from experiments.surplus_claims import DATASETS, nearest_of_many, plot_times, surplus
from lvm_jax.dynamics import LIMITS


def _section(
    make: Callable[..., Iterator[Block]], *names: str
) -> Callable[[Tables], Iterator[Block]]:
    """A section of tables, or the names of those that are not there."""

    def decided(tables):
        lacking = list(tables.lacking(names))
        yield from lacking or make(*map(tables.rows, names))

    return decided


def _draw(tables: Tables) -> Iterator[tuple[str, Figure]]:
    if states := tables.rows("states"):
        for limit in LIMITS:
            yield (
                f"dynamics_states_{100 * limit:.0f}",
                plot_states(states, limit),
            )
        rows = map(tables.rows, ("settled", "agreement"))
        yield "dynamics_settled", plot_settled(*rows)
    if any(tables.rows(f"{dataset}_late") for dataset in DATASETS):
        yield "dynamics_times", plot_times(tables)
    if any(tables.rows(f"{dataset}_variances") for dataset in NOISE):
        yield "dynamics_noise", plot_noise(tables)


CLAIMS = Claims(
    "dynamics",
    {
        "1, 2. Undecided early, contending all along": _section(moments, "moments"),
        "3a. Is the latent that recovers a truth near it at the start?": _section(
            starts, "starts", "settled"
        ),
        "3b. Started from the nearest of 64": _section(
            nearest_of_many, "IMG_late", "IMG_nearest"
        ),
        "4a. Pruned": functools.partial(surplus, "pruned"),
        "4b. Grown": functools.partial(surplus, "grown"),
        "4c. Renewed": functools.partial(surplus, "renewed"),
        "5. What is settled when, and who is left": _section(
            settled, "settled", "contentions"
        ),
        "5. Who contends": _section(contenders, "contenders"),
        "6. Does noise help?": noise,
    },
    _draw,
)


if __name__ == "__main__":
    decide(CLAIMS)
