r"""How many truths a fit that starts at the truth has by the study's rule.

    python -m experiments.attainable

A match requires failures within a factor of e of the true ones on all variables, which
few samples do not tell. Prints, by number of samples, the truths that are matched after
the network has been refitted from the truth: means of the first eight truths and
samples of each kind, with 95% intervals over these. Five minutes.
"""

import lvm_jax
from experiments import cli
from experiments.cli.verdicts import Table, show
from experiments.noisy_or_claims import KINDS
from lvm_jax import noisy_or, report

_NUM_SAMPLES = (500, 1000, 3000, 10_000)
_NUM_TRUTHS = 8  # of each kind


def matched(kind: str, num_samples: int, seed: int) -> int:
    """Truths of eight that a fit from the truth matches.

    Args:
      kind: of data set.
      num_samples: of which a tenth is held out, as in experiments.recurring.
      seed: of truth and samples.
    """
    dataset = noisy_or.make(kind, lvm_jax.key(seed), num_samples)
    truth, train = dataset.truth, noisy_or.task(dataset).train
    start = {"prior": truth.prior, "failure": truth.failure}
    fit = noisy_or.refit(lvm_jax.key(0), start, train)
    return int(noisy_or.recover(truth, fit).num_recovered)


def main() -> None:
    """Prints the table."""
    lines = []
    for kind in KINDS:
        numbers = [
            [matched(kind, size, seed) for seed in range(_NUM_TRUTHS)]
            for size in _NUM_SAMPLES
        ]
        intervals = [report.mean_interval(of, (0, 8)).format(2) for of in numbers]
        lines.append([kind, *intervals])
    sizes = (f"{size} samples" for size in _NUM_SAMPLES)
    show([Table(["truths of 8", *sizes], lines)])


if __name__ == "__main__":
    cli.run(main)
