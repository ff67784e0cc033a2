"""The study's noisy-OR data sets, made in code and sampled from a key.

Source: Buhai et al. 2020, section 3.1 and appendix B. PLNT is published as
parameters only: `read_dataset` reads it, and the original samples of the others.
UNIF-DRAWN, of which every key has another truth, is ours.
"""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lvm_jax import numerics
from lvm_jax.noisy_or import model as noisy_or
from lvm_jax.noisy_or.model import NoisyOr
from lvm_jax.types import Dataset

NUM_LATENTS = 8
NUM_OBSERVED = 64
NOISE = 0.999

# Eight 8x8 pictures, side by side.
_PICTURES = """
...##...  ...#....  ########  #.......  .......#  ........  ........  ........
..#..#..  ...#....  #......#  .#......  ......#.  .######.  ........  ........
.#....#.  ...#....  #......#  ..#.....  .....#..  .#....#.  ..####..  ........
#......#  ...#####  #......#  ...#....  ....#...  .#....#.  ..#..#..  ........
#......#  #####...  #......#  ....#...  ...#....  .#....#.  ..#..#..  .###....
.#....#.  ....#...  #......#  .....#..  ..#.....  .#....#.  ..####..  .###....
..#..#..  ....#...  #......#  ......#.  .#......  .######.  ........  .###....
...##...  ....#...  ########  .......#  #.......  ........  ........  ........
"""


def _network(prior: chex.Array, failure: chex.Array) -> NoisyOr:
    return noisy_or.from_probabilities(prior, failure, np.full(failure.shape[1], NOISE))


def img(prior: float = 0.25) -> NoisyOr:
    """Eight 8x8 pictures: failure 0.1 on a picture's pixels, 1 off them."""
    rows = [line.split() for line in _PICTURES.split("\n") if line]
    pixels = np.array([[list(cell) for cell in row] for row in rows]) == "#"
    failure = np.where(pixels.swapaxes(0, 1).reshape(NUM_LATENTS, -1), 0.1, 1.0)
    return _network(np.full(NUM_LATENTS, prior), failure)


def unif(prior: float | None = None) -> NoisyOr:
    """The published draw of random failures, from NumPy's legacy generator.

    A failure is 1, or with probability 1/4 1 - u with u from U(0.80, 0.95).

    Args:
      prior: one for all latents; None for the published draw from U(0.1, 0.3).
    """
    random = np.random.RandomState(1)
    masks = [random.binomial(1, 0.25, (16, 16)) for _ in range(NUM_LATENTS)]
    priors, failures = [], []
    for mask in masks:
        priors.append(random.uniform(0.1, 0.3))
        strength = random.uniform(0.80, 0.95, NUM_OBSERVED)
        is_child = mask.reshape(-1)[:NUM_OBSERVED] == 1
        failures.append(np.where(is_child, 1.0 - strength, 1.0))
    priors = priors if prior is None else np.full(NUM_LATENTS, prior)
    return _network(np.array(priors), np.stack(failures))


@numerics.settings()
@jax.jit
def random_unif(key: chex.PRNGKey) -> NoisyOr:
    """Another draw of UNIF's truth: priors and failures as random as its own.

    Args:
      key: random key.
    """
    child_key, strength_key, prior_key = jax.random.split(key, 3)
    shape = NUM_LATENTS, NUM_OBSERVED
    is_child = jax.random.bernoulli(child_key, 0.25, shape)
    strength = jax.random.uniform(strength_key, shape, minval=0.80, maxval=0.95)
    prior = jax.random.uniform(prior_key, (NUM_LATENTS,), minval=0.1, maxval=0.3)
    return _network(prior, jnp.where(is_child, 1.0 - strength, 1.0))


@numerics.settings()
def connected(key: chex.PRNGKey, num_children: int) -> NoisyOr:
    """CON8, CON24: each latent has the same number of random children.

    Args:
      key: random key of the choice of children.
      num_children: children of each latent, chosen without replacement.

    Raises:
      ValueError: if there are not so many variables.
    """
    if not 0 <= num_children <= NUM_OBSERVED:
        raise ValueError(
            f"expected 0 to {NUM_OBSERVED} children of a latent, got {num_children}"
        )
    return _connected(key, num_children)


@jax.jit
def _connected(key: chex.PRNGKey, num_children: chex.Array) -> NoisyOr:

    def children(key):
        ranks = jax.random.permutation(key, NUM_OBSERVED)
        return jnp.where(ranks < num_children, 0.1, 1.0)

    failure = jax.vmap(children)(jax.random.split(key, NUM_LATENTS))
    return _network(np.full(NUM_LATENTS, 1 / 8), failure)


@functools.partial(jax.jit, static_argnums=2)
def _sample(key: chex.PRNGKey, truth: NoisyOr, num_samples: int) -> chex.Array:
    return noisy_or.sample(key, truth, num_samples)[0]


def _img_flip(key: chex.PRNGKey, num_samples: int) -> tuple[chex.Array, NoisyOr]:
    """IMG with the pixels of image columns 0 and 4 flipped in a tenth of samples."""
    sample_key, flip_key = jax.random.split(key)
    is_flipped = jax.random.bernoulli(flip_key, 0.1, (num_samples, 1))
    in_column = jnp.isin(jnp.arange(NUM_OBSERVED) % 8, jnp.array([0, 4]))
    return _sample(sample_key, img(), num_samples) ^ (is_flipped & in_column), img()


def _img_unif(key: chex.PRNGKey, num_samples: int) -> tuple[chex.Array, NoisyOr]:
    """IMG's latents and UNIF's, rarer, generate; only IMG's count as truth."""
    truth, nuisance = img(), unif(prior=0.05)
    both = NoisyOr(
        jnp.concatenate([truth.prior_logits, nuisance.prior_logits]),
        jnp.concatenate([truth.failure_logits, nuisance.failure_logits]),
        truth.noise_logits,
    )
    return _sample(key, both, num_samples), truth


def _well_specified(make_truth):
    def make(key, num_samples):
        truth_key, sample_key = jax.random.split(key)
        truth = make_truth(truth_key)
        return _sample(sample_key, truth, num_samples), truth

    return make


_MAKERS = {
    "IMG": _well_specified(lambda _: img()),
    "UNIF": _well_specified(lambda _: unif()),
    "UNIF-DRAWN": _well_specified(random_unif),
    "CON8": _well_specified(lambda key: connected(key, 8)),
    "CON24": _well_specified(lambda key: connected(key, 24)),
    "IMG-FLIP": _img_flip,
    "IMG-UNIF": _img_unif,
}
NAMES = tuple(_MAKERS)


@numerics.settings()
def make(name: str, key: chex.PRNGKey, num_samples: int = 10_000) -> Dataset:
    """Draws a data set of the study.

    Args:
      name: one of NAMES.
      key: random key of the samples, and of the truth of UNIF-DRAWN, CON8 and CON24.
      num_samples: N.

    Returns:
      Dataset with samples [N, 64] bool and a NoisyOr of 8 latents as truth.

    Raises:
      ValueError: if there is no such data set, or N is not positive.
    """
    if name not in _MAKERS:
        raise ValueError(f"expected a data set among {', '.join(NAMES)}, got {name!r}")
    if num_samples < 1:
        raise ValueError(f"expected at least 1 sample, got {num_samples}")
    samples, truth = _MAKERS[name](key, num_samples)
    recipe = {
        "made": name,
        "key": jax.random.key_data(key).tolist(),
        "num_samples": num_samples,
    }
    return Dataset(name, samples, truth, recipe)
