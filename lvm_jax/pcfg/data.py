"""True grammars, read or random, and sentences drawn from them.

Source: Buhai et al. 2020, on neural PCFGs.
"""

import pathlib
from collections.abc import Mapping
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lvm_jax import numerics
from lvm_jax.files import archive
from lvm_jax.pcfg import grammar as pcfg
from lvm_jax.pcfg.grammar import Pcfg
from lvm_jax.types import Dataset

ENGLISH = pathlib.Path(__file__).with_name("english.npz")  # see english.md beside it
_SUM_TOLERANCE = 1e-4
_BISECTIONS = 30


def read_grammar(path: pathlib.Path | str) -> tuple[Pcfg, tuple[str, ...]]:
    """Reads a saved grammar: an archive of a Pcfg's fields and, if it has them, words.

    Args:
      path: an .npz file. It is read without pickle.

    Returns:
      The grammar, and its vocabulary: w0, w1, ... if the archive has none.

    Raises:
      ValueError: if the file is no such archive, shapes do not fit, or the
        probabilities of a row do not sum to one.
      OSError: if the file cannot be read.
    """
    arrays = archive.read(pathlib.Path(path))
    grammar = Pcfg(*(_log_probs(arrays, field, path) for field in Pcfg._fields))
    shapes = tuple(leaf.shape for leaf in grammar)
    if list(map(len, shapes)) != [1, 3, 2] or 0 in sum(shapes, ()):
        raise ValueError(
            f"expected arrays [N], [N, S, S] and [T, V] in the grammar {path}, got "
            f"shapes {', '.join(map(str, shapes))}"
        )
    num, preterminals = shapes[0][0], shapes[2][0]
    size = num + preterminals
    if shapes[1] != (num, size, size):
        raise ValueError(
            f"expected log_rules of shape {(num, size, size)} in the grammar {path}, "
            f"got {shapes[1]}"
        )
    for field, leaf in grammar._asdict().items():
        _check_sums(leaf, field, path)
    return grammar, _words(arrays.get("words"), shapes[2][1], path)


def _log_probs(
    arrays: Mapping[str, np.ndarray], field: str, path: pathlib.Path | str
) -> np.ndarray:
    if field not in arrays:
        raise ValueError(f"expected {field} in the grammar {path}, got none")
    values = arrays[field]
    if values.dtype.kind not in "iuf":
        raise ValueError(
            f"expected numbers as {field} in the grammar {path}, got {values.dtype}"
        )
    with np.errstate(over="ignore"):  # refused, as they do not sum to one
        return values.astype(np.float32)


def _check_sums(leaf: np.ndarray, field: str, path: pathlib.Path | str) -> None:
    """Checks that the probabilities of each symbol sum to one."""
    rows = leaf.reshape(1 if leaf.ndim == 1 else len(leaf), -1)
    with np.errstate(over="ignore"):
        sums = np.exp(rows.astype(np.float64)).sum(1)
    worst = int(np.argmax(np.nan_to_num(np.abs(sums - 1), nan=np.inf)))
    if not abs(sums[worst] - 1) <= _SUM_TOLERANCE:
        raise ValueError(
            f"expected probabilities that sum to 1 in the grammar {path}, got "
            f"{sums[worst]:.6g} in row {worst} of {field}"
        )


def _words(
    words: np.ndarray | None, number: int, path: pathlib.Path | str
) -> tuple[str, ...]:
    if words is None:
        return tuple(f"w{index}" for index in range(number))
    if words.shape != (number,) or words.dtype.kind != "U":
        raise ValueError(
            f"expected {number} words in the grammar {path}, got {words.dtype} of "
            f"shape {words.shape}"
        )
    return tuple(words.tolist())


@numerics.settings()
def random_grammar(
    key: chex.PRNGKey,
    num_nonterminals: int,
    num_preterminals: int,
    num_words: int,
    *,
    sharpness: float,
    radius: float = 0.93,
) -> Pcfg:
    """Draws a grammar whose logits are normal numbers times a sharpness.

    Nonterminal children are made less likely, all alike, until the spectral radius
    of expected offspring is no larger than asked for: derivations then end.

    Args:
      key: random key.
      num_nonterminals: N.
      num_preterminals: T.
      num_words: V.
      sharpness: standard deviation of the logits of rules and words; 1 is close to
        uniform, 5 leaves a symbol a few rules and words.
      radius: the largest spectral radius of expected offspring, below 1.

    Returns:
      Pcfg.

    Raises:
      ValueError: if the sharpness is negative or the radius not between 0 and 1.
    """
    if not sharpness >= 0:
        raise ValueError(f"expected a sharpness of at least 0, got {sharpness:g}")
    if not 0 < radius < 1:
        raise ValueError(f"expected a radius above 0 and below 1, got {radius:g}")
    root_key, rule_key, word_key = jax.random.split(key, 3)
    size = num_nonterminals + num_preterminals
    rules = jax.random.normal(rule_key, (num_nonterminals, size, size))
    words = jax.random.normal(word_key, (num_preterminals, num_words))
    logits = Pcfg(
        jax.random.normal(root_key, (num_nonterminals,)),
        sharpness * rules,
        sharpness * words,
    )
    is_nonterminal = np.arange(size) < num_nonterminals
    num_nonterminal_children = is_nonterminal[:, None] + is_nonterminal.astype(int)

    def penalised(penalty):
        log_rules = logits.log_rules - penalty * num_nonterminal_children
        return pcfg.normalise(logits._replace(log_rules=log_rules))

    low, high = 0.0, 50.0 * (1 + sharpness)
    if pcfg.offspring_radius(penalised(low)) <= radius:
        return penalised(low)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        is_small = pcfg.offspring_radius(penalised(middle)) <= radius
        low, high = (low, middle) if is_small else (middle, high)
    return penalised(high)


@numerics.settings()
def from_truth(
    name: str,
    key: chex.PRNGKey,
    truth: Pcfg,
    num_samples: int,
    *,
    min_words: int = 2,
    max_words: int = 20,
    recipe: Mapping[str, Any] | None = None,
) -> Dataset:
    """Draws sentences from a grammar, those with lengths in range.

    Args:
      name: as shown in tables.
      key: random key.
      truth: Pcfg.
      num_samples: N.
      min_words: the least length.
      max_words: L, the largest length.
      recipe: what the grammar was made from, None if only its numbers say so.

    Returns:
      Dataset with sentences [N, L], padded by -1, as samples.

    Raises:
      ValueError: if the grammar is improper, such lengths hardly occur, or N is not
        positive.
    """
    if num_samples < 1:
        raise ValueError(f"expected at least 1 sentence, got {num_samples}")
    samples = pcfg.sample(
        key, truth, num_samples, min_words=min_words, max_words=max_words
    )
    if recipe is not None:
        recipe = {
            **recipe,
            "key": jax.random.key_data(key).tolist(),
            "num_samples": num_samples,
            "words": [min_words, max_words],
        }
    return Dataset(name, samples, truth, recipe)


def log_length_share(grammar: Pcfg, min_words: int, max_words: int) -> float:
    """log P(min_words <= length <= max_words) in nats.

    Sentences drawn under limits of length come from P(sentence) over this.

    Raises:
      ValueError: if the limits make no sense.
    """
    pcfg.check_lengths(min_words, max_words)
    log_probs = pcfg.log_length_probs(grammar, max_words)
    return float(jax.nn.logsumexp(jnp.asarray(log_probs[min_words - 2 :])))
