"""The course of learning, from two traced sweeps of the same runs, as rows of tables.

The first sweep has many records of each of its epochs, the second one of each of more.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from scipy import stats

import lvm_jax
from lvm_jax import noisy_or, numerics, report
from lvm_jax.dynamics import ALONE, CONTENDING, LIMITS, STATES, agreement_with, settled
from lvm_jax.noisy_or.dynamics import distances
from lvm_jax.types import Level

MOMENTS = (1 / 9, 2 / 9, 3 / 9, 1, 10, 30, 100, 200)
_STARTS = (0, 1 / 9, 1, 10)
_ENDS = (10, 50, 200)
_NUM_PERMUTATIONS = 9999
_LATE_FROM = 10  # epochs after which a contention begins late
_COPY = 0.25  # relative distance within which a latent is a copy of a truth

Rows = Iterator[dict[str, Any]]


class Course(NamedTuple):
    """Records of the runs of a level, the early ones first.

    Attributes:
      epochs: [E].
      traces: [R, E, ...] by name.
      elbo: [R, E]. Held-out, in nats.
      matched: [R, T]. The latent of the kept model that recovers each truth, else -1.
    """

    epochs: np.ndarray
    traces: dict[str, np.ndarray]
    elbo: np.ndarray
    matched: np.ndarray

    def at(self, epoch: float) -> int:
        """The place of a record.

        Raises:
          ValueError: if there is none at that epoch.
        """
        place = int(np.abs(self.epochs - epoch).argmin())
        if abs(self.epochs[place] - epoch) > 1e-6:
            raise ValueError(f"expected a record at epoch {epoch:g}, got none")
        return place


def _matched(task: lvm_jax.Task, results: lvm_jax.Results) -> dict[Level, np.ndarray]:
    @jax.jit
    @jax.vmap
    def of_run(params, live):
        model = noisy_or.network(params)
        return noisy_or.recover(task.truth, model, live).matched

    found = {}
    for level, kept in results.kept.items():
        params, live = jax.tree.map(lambda leaf: leaf[0], (kept.params, kept.live))
        found[level] = np.array(of_run(params, live))
        found[level][kept.diverged[0]] = -1
    return found


def courses(
    task: lvm_jax.Task, early: lvm_jax.Results, late: lvm_jax.Results
) -> dict[Level, Course]:
    """The records of both sweeps in order, by level.

    Raises:
      ValueError: if the two are not of the same runs, or nothing was traced.
    """
    if {early.name, late.name} != {task.name}:
        raise ValueError(
            f"expected two sweeps of {task.name}, got {early.name} and {late.name}"
        )
    for name in ("levels", "seeds", "settings"):
        of_both = getattr(early.plan, name), getattr(late.plan, name)
        if of_both[0] != of_both[1]:
            raise ValueError(f"expected two sweeps of the same {name}, got {of_both}")
    if not early.traces or not late.traces:
        raise ValueError("expected two sweeps with --trace, got one without")
    if late.plan.records_per_epoch != 1:
        raise ValueError(
            "expected one record of each epoch in the second sweep, got "
            f"{late.plan.records_per_epoch}"
        )
    num_early = int(early.epochs[-1])
    matched = _matched(task, late)
    return {
        level: Course(
            np.concatenate([early.epochs, late.epochs[num_early:]]),
            {
                name: np.concatenate([of[0], later[name][0][:, num_early:]], axis=1)
                for name, of in early.traces[level].items()
                if name in (later := late.traces[level])
            },
            np.concatenate(
                [
                    early.history["held_out_elbo"][place, 0],
                    late.history["held_out_elbo"][place, 0][:, num_early:],
                ],
                axis=1,
            ),
            matched[level],
        )
        for place, level in enumerate(early.plan.levels)
    }


def _counts(course: Course, place: int, limit: int) -> np.ndarray:
    """[R, 4]. How many latents of each run are in each state."""
    state = course.traces["state"][:, place, limit]
    return (state[..., None] == np.arange(len(STATES))).sum(1)


def _shown(epochs: np.ndarray) -> list[int]:
    """Records of the first epoch in ninths, then of epochs, then of every tenth."""
    ninths = np.round(9 * epochs, 6)
    is_shown = (ninths % 1 == 0) & ((epochs <= 1) | (epochs % 1 == 0))
    return np.flatnonzero(is_shown & ((epochs <= 30) | (epochs % 10 == 0))).tolist()


def state_rows(level: Level, course: Course) -> Rows:
    """How many latents are in each state, by epoch."""
    for (number, limit), place in (
        (item, place) for item in enumerate(LIMITS) for place in _shown(course.epochs)
    ):
        counts = _counts(course, place, number)
        means = report.mean_intervals(counts, np.ones(counts.shape, bool), (0, level))
        for state, (mean, low, high) in zip(STATES, means.T, strict=True):
            yield {
                "level": level,
                "limit": limit,
                "epoch": round(course.epochs[place], 4),
                "state": state,
                "mean": round(mean, 4),
                "low": round(low, 4),
                "high": round(high, 4),
            }


def moment_rows(level: Level, course: Course) -> Rows:
    """How many latents of every run are in each state, at the moments of the rule."""
    for (number, limit), moment in (
        (item, moment) for item in enumerate(LIMITS) for moment in MOMENTS
    ):
        counts = _counts(course, course.at(moment), number)
        for run, of_run in enumerate(counts.tolist()):
            about = {"level": level, "limit": limit, "epoch": round(moment, 4)}
            yield {**about, "run": run, **dict(zip(STATES, of_run, strict=True))}


def agreement_rows(level: Level, course: Course) -> Rows:
    """How many assignments are those of the end, for several ends, and the ELBO."""
    assigned = course.traces["assigned"]
    for end in _ENDS:
        same = agreement_with(assigned, assigned[:, course.at(end)])
        for place in _shown(course.epochs):
            if course.epochs[place] > end:
                break
            values = np.asarray(same[:, place], float)
            mean, low, high = report.mean_interval(values, (0, assigned.shape[-1]))
            yield {
                "level": level,
                "end": end,
                "epoch": round(course.epochs[place], 4),
                "mean": round(mean, 4),
                "low": round(low, 4),
                "high": round(high, 4),
                "held_out_elbo": round(float(course.elbo[:, place].mean()), 4),
            }


def settled_rows(level: Level, course: Course) -> Rows:
    """The epoch since which each truth has had its latent.

    Recovered is one that the kept model has, if by the latent that it is assigned to
    in the end.
    """
    assigned = course.traces["assigned"]
    epochs = course.epochs[settled(assigned)]
    is_kept = (course.matched >= 0) & (course.matched == assigned[:, -1])
    for run, truth in np.ndindex(epochs.shape):
        yield {
            "level": level,
            "run": run,
            "truth": truth,
            "epoch": round(epochs[run, truth], 4),
            "is_recovered": bool(is_kept[run, truth]),
        }


@numerics.settings()
def at_start(task: lvm_jax.Task, plan: lvm_jax.Plan) -> dict[Level, np.ndarray]:
    """[R, T, K] relative distances before the first step, by level."""
    sweep = lvm_jax.Sweep(task, plan)
    found = {}
    for group, runs in zip(sweep.groups, sweep.gather(sweep.init()), strict=True):
        relative = jax.jit(jax.vmap(lambda model: distances(task.truth, model)[1]))(
            runs.state.params.model
        )
        found[group.runs[0].level] = np.asarray(relative)
    return found


def ranks(relative: np.ndarray) -> np.ndarray:
    """The rank of every latent by distance to every truth, from 0 to 1.

    Args:
      relative: [..., T, K]. Ties have the mean of their ranks.
    """
    nearer = (relative[..., None, :] < relative[..., :, None]).sum(-1)
    equal = (relative[..., None, :] == relative[..., :, None]).sum(-1) - 1
    return (nearer + equal / 2) / (relative.shape[-1] - 1)


def permutation_test(
    rank: np.ndarray, matched: np.ndarray, num_permutations: int
) -> tuple[np.ndarray, float]:
    """Whether the latents that recover truths were nearer to them than others.

    Args:
      rank: [R, T, K]. Of every latent, by distance to every truth.
      matched: [R, T]. The latent that recovers each truth, else -1.
      num_permutations: of latents, within runs, drawn at random.

    Returns:
      The rank of each recovered truth's latent; and the p value, two-sided, of their
      mean over truths.
    """
    run, truth = np.nonzero(matched >= 0)
    own = rank[run, truth, matched[run, truth]]
    random = np.random.default_rng(0)
    means = np.empty(num_permutations)
    index = np.arange(rank.shape[-1])
    for number in range(num_permutations):
        order = random.permuted(np.broadcast_to(index, (len(rank), index.size)), axis=1)
        means[number] = rank[run, truth, order[run, matched[run, truth]]].mean()
    is_as_far = np.abs(means - means.mean()) >= abs(own.mean() - means.mean())
    return own, (1 + is_as_far.sum()) / (1 + num_permutations)


def start_rows(level: Level, course: Course, start: np.ndarray) -> Rows:
    """How near the latents that recover truths were to them, at four moments."""
    for moment in _STARTS:
        relative = start
        if moment:
            relative = course.traces["relative"][:, course.at(moment)].astype(float)
        rank = ranks(relative)
        own, p_value = permutation_test(rank, course.matched, _NUM_PERMUTATIONS)
        run, _ = np.nonzero(course.matched >= 0)
        of_runs = [own[run == number].mean() for number in np.unique(run)]
        mean, low, high = report.mean_interval(of_runs, (0, 1))
        yield {
            "level": level,
            "epoch": round(moment, 4),
            "num_truths": len(own),
            "rank": round(mean, 4),
            "low": round(low, 4),
            "high": round(high, 4),
            "nearest": round(float((own == 0).mean()), 4),
            "p_value": p_value,
        }


class Contention(NamedTuple):
    """Two latents that have come to one truth, from the first record to the last.

    Attributes:
      epoch: of the first record at which both have.
      nearer: the one that is nearer then.
      first: the one that was there alone of the two at the record before; None if
        neither was.
      left: the one that is still there at the record after the last at which both are;
        None if neither is, or the records end.
    """

    epoch: float
    nearer: int
    first: int | None
    left: int | None


def contentions(
    came: np.ndarray, distance: np.ndarray, epochs: np.ndarray
) -> Iterator[Contention]:
    """The contentions for one truth in a run, one for each pair of latents.

    Of a pair that comes and goes it is all one, until one of the two stays away.

    Args:
      came: [E, K] bool. Latents that have come to the truth.
      distance: [E, K]. Relative distances.
      epochs: [E].
    """
    pairs = itertools.combinations(np.flatnonzero(came.any(0)).tolist(), 2)
    for pair in map(list, pairs):
        both = np.flatnonzero(came[:, pair].all(1)).tolist()
        if both:
            start, stop = both[0], both[-1] + 1
            yield Contention(
                epochs[start],
                min(pair, key=lambda latent, at=start: distance[at, latent]),
                _only(pair, came, start - 1) if start else None,
                _only(pair, came, stop) if stop < len(came) else None,
            )


def _only(pair: Sequence[int], came: np.ndarray, record: int) -> int | None:
    """The one of a pair that has come to the truth, if one has."""
    there = [latent for latent in pair if came[record, latent]]
    return there[0] if len(there) == 1 else None


def contention_rows(level: Level, course: Course) -> Rows:
    """Of every run, contentions in the first ten epochs and later, and who is left."""
    traces = course.traces
    came = traces["state"][:, :, 0] >= ALONE
    num_truths = course.matched.shape[1]
    for run in range(len(came)):
        found = [
            contention
            for truth in range(num_truths)
            for contention in contentions(
                came[run] & (traces["nearest"][run] == truth),
                traces["distance"][run],
                course.epochs,
            )
        ]
        for is_late in (False, True):
            some = [own for own in found if (own.epoch > _LATE_FROM) == is_late]
            ended = [own for own in some if own.left is not None]
            known = [own for own in ended if own.first is not None]
            yield {
                "level": level,
                "run": run,
                "is_late": is_late,
                "contentions": len(some),
                "ended": len(ended),
                "nearer_left": sum(own.left == own.nearer for own in ended),
                "known_first": len(known),
                "first_left": sum(own.left == own.first for own in known),
            }


def contender_rows(level: Level, course: Course) -> Rows:
    """Whether latents that contend are parts of their truth or copies of it."""
    traces = course.traces
    for moment in MOMENTS:
        place = course.at(moment)
        contends = traces["state"][:, place, 0] == CONTENDING
        distances = [
            traces["distance"][run, place][own]
            for run, truth in np.ndindex(course.matched.shape)
            if (own := contends[run] & (traces["nearest"][run, place] == truth)).any()
        ]
        num_copies = sum(of.max() <= _COPY for of in distances)
        num_parts = sum(of.min() > _COPY for of in distances)
        yield {
            "level": level,
            "epoch": round(moment, 4),
            "truths": len(distances),
            "parts": num_parts,
            "copies": num_copies,
            "both": len(distances) - num_parts - num_copies,
        }


def undecided_share(rows: Sequence[Mapping[str, Any]]) -> tuple[report.Interval, int]:
    """Of latents that are not empty, those that are undecided; mean over runs.

    Args:
      rows: of `moment_rows`, of one moment.

    Returns:
      The share, and of how many runs it is: of those that are not all empty.
    """
    some = [row for row in rows if row["empty"] < row["level"]]
    shares = [row["undecided"] / (row["level"] - row["empty"]) for row in some]
    return report.mean_interval(shares, (0, 1)), len(shares)


def kaplan_meier(rows: Sequence[Mapping[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Epochs, and the share of truths that are settled by then, if not before the last.

    Args:
      rows: of `settled_rows`. Truths that are not recovered in the end are censored
        there.
    """
    last = MOMENTS[-1]
    times = np.array([row["epoch"] for row in rows])
    is_settled = np.array([row["is_recovered"] and row["epoch"] < last for row in rows])
    data = stats.CensoredData(
        uncensored=times[is_settled], right=np.full((~is_settled).sum(), last)
    )
    found = stats.ecdf(data).cdf
    return found.quantiles, found.probabilities
