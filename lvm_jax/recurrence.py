"""Latents that recur from run to run: what several runs of a level agree on.

No truth is needed, and no model is known here: arrays of which latent of a run matches
which of another come in, from `recovery.matches`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

_CONFIDENCE = 0.95
# Of pairs of members of two recurring latents, more than these match where the latents
# are one.
_MAJORITY = 0.5


class Consensus(NamedTuple):
    """What recurs, of C latents and R runs, the most frequent first.

    Attributes:
      member: [C, R] int. The latent of each run that is of it, -1 where there is none.
      medoid: [C] int. The run whose latent stands for all of them.
      share: [C]. Of the other runs those that have it.
      low: [C]. Where the share's 95% interval over runs begins, Wilson's.
      high: [C]. Where it ends.
      latents: parameters [C, ...] of the medoids by name, as the task's `latents` has
        them.
      spread: [C, ...] of the same names. Standard deviation over members.
    """

    member: np.ndarray
    medoid: np.ndarray
    share: np.ndarray
    low: np.ndarray
    high: np.ndarray
    latents: Mapping[str, np.ndarray]
    spread: Mapping[str, np.ndarray]

    @property
    def medoid_latent(self) -> np.ndarray:
        """[C] int. Which latent of its run each medoid is."""
        return self.member[np.arange(len(self.medoid)), self.medoid]


def links(matched: np.ndarray, kept: np.ndarray) -> np.ndarray:
    """Survivors of two runs that are matched to one another, from both sides.

    Args:
      matched: [R, R, K] int. The second run's latent for each of the first that
        survives, or -1.
      kept: [R, K] bool. Which of them survive the filter.

    Returns:
      [R, K, R] int. The one survivor of another run that a survivor is linked with, -1
      where there is none. Of its own run a survivor is linked with itself.
    """
    num_runs, num_latents = kept.shape
    linked = _links_between(matched, matched)
    own = np.where(kept, np.arange(num_latents), -1)
    linked[np.arange(num_runs), np.arange(num_runs)] = own
    return linked.swapaxes(1, 2)


def _links_between(matched: np.ndarray, back: np.ndarray) -> np.ndarray:
    """[R, R', K]. Of `matched` what `back` [R', R, K'] matches the other way, or -1."""
    run, other = np.ogrid[: matched.shape[0], : matched.shape[1]]
    run, other = run[..., None], other[..., None]
    is_link = (matched >= 0) & (
        back[other, run, np.maximum(matched, 0)] == np.arange(matched.shape[2])
    )
    return np.where(is_link, matched, -1)


def _members(
    linked: np.ndarray, is_left: np.ndarray, run: int, latent: int
) -> tuple[np.ndarray, int]:
    """What is left of what a survivor is linked with, but for what disagrees.

    A member agrees with more of the others than it disagrees with. Two agree if they
    are linked, and disagree if one is linked with another latent of the other's run, as
    those do that a latent between them is linked with. Of two that are linked with
    nothing in one another's runs nothing is known.

    Returns:
      [R] int, -1 where there is none; and how many links there are among them.
    """
    own = linked[run, latent]
    runs = np.flatnonzero((own >= 0) & is_left[np.arange(len(own)), own])
    runs = runs[runs != run]
    found = linked[runs, own[runs]][:, runs]
    agrees = found == own[runs]
    num_agreed = agrees.sum(1) - 1  # without itself
    num_disagreed = ((found >= 0) & ~agrees).sum(1)
    is_member = (num_agreed > num_disagreed) | (len(runs) == 1)
    member = np.full(len(own), -1)
    member[runs[is_member]] = own[runs[is_member]]
    member[run] = latent
    return member, int(agrees[np.ix_(is_member, is_member)].sum())


def recurring(
    matched: np.ndarray, kept: np.ndarray, objective: np.ndarray, share: float = 0.5
) -> Consensus:
    """The latents that recur in a share of the runs at least.

    The survivor that most other runs have stands first, with those of their latents
    that it is linked with, a match from both sides, and that agree with more of one
    another than they disagree with; then the next of what is left. A run's latent is in
    one place at most. What recurs does not depend on the order of runs and of latents:
    what is had by as many is taken by links among members, then by the objective of the
    run, and of one run nothing is linked with the same.

    Args:
      matched: [R, R, K] int. Of `recovery.matches`.
      kept: [R, K] bool. Of `recovery.survivors`.
      objective: [R]. Held-out objective of each run, larger for better models.
      share: of the other runs that have to have a latent.

    Returns:
      Consensus, without parameters.

    Raises:
      ValueError: if there are fewer than two runs.
    """
    num_runs = len(kept)
    if num_runs < 2:
        raise ValueError(f"expected at least 2 runs to compare, got {num_runs}")
    linked, is_left = links(matched, kept), kept.copy()
    groups = {
        (int(run), int(latent)): _members(linked, is_left, run, latent)
        for run, latent in np.argwhere(kept)
    }

    def rank(place):
        member, num_links = groups[place]
        return (member >= 0).sum(), num_links, objective[place[0]]

    members, medoids = [], []
    while groups:
        first = max(groups, key=rank)
        member = groups[first][0]
        if (member >= 0).sum() - 1 < share * (num_runs - 1):
            break
        members.append(member)
        medoids.append(first[0])
        runs = np.flatnonzero(member >= 0)
        is_left[runs, member[runs]] = False
        for run in runs:
            del groups[int(run), int(member[run])]
        for place in groups:  # others that were linked with what is taken
            if (linked[place][runs] == member[runs]).any():
                groups[place] = _members(linked, is_left, *place)
    return _consensus(np.array(members, int).reshape(-1, num_runs), medoids)


def _consensus(member: np.ndarray, medoid: Sequence[int]) -> Consensus:
    counts, num_others = (member >= 0).sum(1) - 1, member.shape[1] - 1
    tests = [stats.binomtest(int(count), num_others) for count in counts]
    intervals = [test.proportion_ci(_CONFIDENCE, method="wilson") for test in tests]
    return Consensus(
        member,
        np.array(medoid, int),
        counts / num_others,
        np.array([interval.low for interval in intervals], float),
        np.array([interval.high for interval in intervals], float),
        {},
        {},
    )


def repeated(
    consensus: Consensus, other: Consensus, matched: np.ndarray, back: np.ndarray
) -> np.ndarray:
    """Which latents of one consensus recur in another, of other runs.

    Two are one if their members match, from both sides, in more than half of the pairs
    of members, and more of them than in any other pair of recurring latents.

    Args:
      consensus: of C latents and R runs.
      other: of C' latents and R' runs.
      matched: [R, R', K] int. Of `recovery.matches`, the latents of the other runs.
      back: [R', R, K'] int. The same the other way.

    Returns:
      [C] int. The place in the other consensus, -1 where there is none.
    """
    linked = _links_between(matched, back)
    shares = np.zeros((len(consensus.member), len(other.member)))
    for row, member in zip(shares, consensus.member, strict=True):
        runs = np.flatnonzero(member >= 0)
        found = linked[runs, :, member[runs]]  # [members, R']
        is_member = other.member >= 0
        same = (found == other.member[:, None]) & is_member[:, None]
        row[:] = same.sum((1, 2)) / (len(runs) * is_member.sum(1))
    if not shares.size:
        return np.full(len(shares), -1)
    place = shares.argmax(1)
    best = shares.max(1)
    is_one = (best > _MAJORITY) & (best >= shares.max(0)[place])
    return np.where(is_one, place, -1)
