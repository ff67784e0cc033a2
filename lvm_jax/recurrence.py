"""Latents that recur from run to run: what several runs of a level agree on.

No truth is needed, and no model is known here: arrays of which latent of a run matches
which of another come in, from `recovery.matches`.
"""

from typing import NamedTuple

import numpy as np


class Consensus(NamedTuple):
    """What recurs, of C latents and R runs, the most frequent first.

    Attributes:
      member: [C, R] int. The latent of each run that is of it, -1 where there is none.
      medoid: [C] int. The run whose latent stands for all of them.
      share: [C]. Of the other runs those that have it.
    """

    member: np.ndarray
    medoid: np.ndarray
    share: np.ndarray


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
    run, other = np.ogrid[:num_runs, :num_runs]
    run, other = run[..., None], other[..., None]
    latent = np.arange(num_latents)
    place = np.maximum(matched, 0)
    is_link = (matched >= 0) & (matched[other, run, place] == latent)
    linked = np.where(is_link, matched, -1)
    own = np.where(kept, latent, -1)
    linked[np.arange(num_runs), np.arange(num_runs)] = own
    return linked.swapaxes(1, 2)


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


def _most_had(
    linked: np.ndarray, is_left: np.ndarray, objective: np.ndarray
) -> tuple[np.ndarray, int]:
    """Of what is left the survivor that most other runs have.

    Returns:
      [R] int, its members, and its run.
    """

    def rank(place):
        member, num_links = _members(linked, is_left, *place)
        return (member >= 0).sum(), num_links, objective[place[0]]

    run, latent = max(np.argwhere(is_left), key=rank)
    return _members(linked, is_left, run, latent)[0], int(run)


def recurring(
    matched: np.ndarray, kept: np.ndarray, objective: np.ndarray, share: float = 0.5
) -> Consensus:
    """The latents that recur in a share of the runs at least.

    The survivor that most other runs have stands first, with those of their latents
    that it is linked with; then the next of what is left. A run's latent is in one
    place at most. What recurs does not depend on the order of runs and of latents: what
    is had by as many is taken by links among members, then by the objective of the run,
    and of one run nothing is linked with the same.

    Args:
      matched: [R, R, K] int. Of `recovery.matches`.
      kept: [R, K] bool. Of the same.
      objective: [R]. Held-out objective of each run, larger for better models.
      share: of the other runs that have to have a latent.

    Returns:
      Consensus.

    Raises:
      ValueError: if there are fewer than two runs.
    """
    num_runs = len(kept)
    if num_runs < 2:
        raise ValueError(f"expected at least 2 runs to compare, got {num_runs}")
    linked, is_left = links(matched, kept), kept.copy()
    found = []
    while is_left.any():
        member, run = _most_had(linked, is_left, objective)
        num_others = (member >= 0).sum() - 1
        if num_others < share * (num_runs - 1):
            break
        found.append((member, run, num_others / (num_runs - 1)))
        runs = np.flatnonzero(member >= 0)
        is_left[runs, member[runs]] = False
    members, medoids, shares = zip(*found, strict=True) if found else ((), (), ())
    return Consensus(
        np.array(members, int).reshape(-1, num_runs),
        np.array(medoids, int),
        np.array(shares, float),
    )
