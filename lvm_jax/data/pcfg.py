"""Grammars to learn, and sentences: drawn, read from a corpus, put into buckets.

Source: Buhai et al. 2020, on neural PCFGs.
"""

import collections
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np

from lvm_jax import archive
from lvm_jax.models import pcfg
from lvm_jax.models.pcfg import PAD, Pcfg
from lvm_jax.types import Dataset

ENGLISH = pathlib.Path(__file__).with_name("english.npz")  # see english.md beside it
UNKNOWN = "<unk>"
_GROWTH = 2.5  # power of the length that the time of a sentence grows with
_SUM_TOLERANCE = 1e-4
_BISECTIONS = 30
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1b\x7f]")


class Corpus(NamedTuple):
    """Sentences of a file.

    Attributes:
      sentences: [N, L] int32, padded by -1.
      words: the vocabulary; a word's number is its place.
      num_one_word: lines of a single word, which have no tree and were skipped.
      num_outside: longer lines, skipped for their length.
    """

    sentences: np.ndarray
    words: tuple[str, ...]
    num_one_word: int
    num_outside: int


def _lines(path: pathlib.Path) -> list[list[str]]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"expected a corpus in UTF-8, got byte {error.start} of {path}"
        ) from error
    control = _CONTROL.search(text)
    if control:
        raise ValueError(
            f"expected a corpus of text, got the control character "
            f"{control.group()!r} at place {control.start()} of {path}"
        )
    lines = [line.split() for line in text.splitlines()]
    if not lines:
        raise ValueError(
            f"expected a sentence on each line, got {path}, which is empty"
        )
    for number, words in enumerate(lines, 1):
        if not words:
            raise ValueError(
                f"expected a sentence on each line, got none on line {number} of {path}"
            )
    return lines


def read_corpus(
    path: pathlib.Path | str,
    *,
    vocabulary: int,
    min_words: int = 2,
    max_words: int = 20,
) -> Corpus:
    """Reads a text with a sentence on each line, words separated by spaces.

    The vocabulary is `<unk>`, which stands for all other words, and the most frequent
    words of the lines that are kept.

    Args:
      path: a file in UTF-8.
      vocabulary: V, at most so many different words, `<unk>` included.
      min_words: shorter sentences are skipped.
      max_words: longer sentences are skipped.

    Returns:
      Corpus.

    Raises:
      ValueError: if the file is empty, not a text in UTF-8, has a line without words,
        or no sentence of such a length, or if the vocabulary is below 2.
      OSError: if the file cannot be read.
    """
    if vocabulary < 2:
        raise ValueError(f"expected a vocabulary of at least 2 words, got {vocabulary}")
    lines = _lines(pathlib.Path(path))
    kept = [line for line in lines if min_words <= len(line) <= max_words]
    if not kept:
        raise ValueError(
            f"expected a sentence of {min_words} to {max_words} words, got none in "
            f"{path}"
        )
    counts = collections.Counter(word for line in kept for word in line)
    counts.pop(UNKNOWN, None)
    by_count = sorted(counts, key=lambda word: (-counts[word], word))
    words = (UNKNOWN, *by_count[: vocabulary - 1])
    number = {word: index for index, word in enumerate(words)}
    sentences = np.full((len(kept), max_words), PAD, np.int32)
    for row, line in zip(sentences, kept, strict=True):
        row[: len(line)] = [number.get(word, 0) for word in line]
    num_one_word = sum(len(line) == 1 for line in lines)
    num_outside = len(lines) - len(kept) - num_one_word
    return Corpus(sentences, words, num_one_word, num_outside)


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
    try:
        arrays = archive.read(pathlib.Path(path))
    except ValueError as error:
        raise ValueError(
            f"expected a grammar saved as an archive of arrays, got {path}"
        ) from error
    missing = [field for field in Pcfg._fields if field not in arrays]
    if missing:
        raise ValueError(f"expected {missing[0]} in the grammar {path}, got none")
    grammar = Pcfg(*(np.asarray(arrays[field], np.float32) for field in Pcfg._fields))
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
        rows = np.exp(leaf.astype(np.float64))
        sums = rows.reshape(1 if leaf.ndim == 1 else len(leaf), -1).sum(1)
        worst = int(np.argmax(np.nan_to_num(np.abs(sums - 1), nan=np.inf)))
        if not abs(sums[worst] - 1) <= _SUM_TOLERANCE:
            raise ValueError(
                f"expected probabilities that sum to 1 in the grammar {path}, got "
                f"{sums[worst]:.6g} in row {worst} of {field}"
            )
    num_words = shapes[2][1]
    words = arrays.get("words", np.array([f"w{index}" for index in range(num_words)]))
    if words.shape != (num_words,):
        raise ValueError(
            f"expected {num_words} words in the grammar {path}, got {words.size}"
        )
    return grammar, tuple(words.tolist())


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


def from_truth(
    name: str,
    key: chex.PRNGKey,
    truth: Pcfg,
    num_samples: int,
    *,
    min_words: int = 2,
    max_words: int = 20,
) -> Dataset:
    """Draws sentences from a grammar, those with lengths in range.

    Args:
      name: as shown in tables.
      key: random key.
      truth: Pcfg.
      num_samples: N.
      min_words: the least length.
      max_words: L, the largest length.

    Returns:
      Dataset with sentences [N, L], padded by -1, as samples.

    Raises:
      ValueError: if the grammar is improper or such lengths hardly occur.
    """
    samples = pcfg.sample(
        key, truth, num_samples, min_words=min_words, max_words=max_words
    )
    return Dataset(name, samples, truth)


def log_length_share(grammar: Pcfg, min_words: int, max_words: int) -> float:
    """log P(min_words <= length <= max_words) in nats.

    Sentences drawn under limits of length come from P(sentence) over this.
    """
    log_probs = pcfg.log_length_probs(grammar, max_words)
    return float(jax.nn.logsumexp(jnp.asarray(log_probs[min_words - 2 :])))


def bucket_lengths(
    lengths: Sequence[int], num_buckets: int, min_size: int = 1
) -> list[int]:
    """The largest length of each bucket, chosen so that padding costs little.

    The time that sentences take is counted as the power 2.5 of the length that they
    are padded to, and the sum made least.

    Args:
      lengths: of the sentences.
      num_buckets: at most so many.
      min_size: sentences that each bucket has at least.

    Returns:
      Increasing lengths, the last one the largest of all.

    Raises:
      ValueError: if there are fewer than `min_size` sentences.
    """
    if len(lengths) < min_size:
        raise ValueError(
            f"expected at least {min_size} sentences, a batch, got {len(lengths)}"
        )
    sizes, counts = np.unique(np.asarray(lengths), return_counts=True)
    below = np.concatenate([[0], np.cumsum(counts)])
    # best[j]: cost and bounds of the cheapest way to cover the first j sizes.
    best = {0: (0.0, [])}
    everything = []
    for _ in range(num_buckets):
        wider = {}
        for start, (cost, bounds) in best.items():
            for stop in range(start + 1, len(sizes) + 1):
                count = below[stop] - below[start]
                if count < min_size:
                    continue
                total = cost + count * float(sizes[stop - 1]) ** _GROWTH
                if stop not in wider or total < wider[stop][0]:
                    wider[stop] = (total, [*bounds, int(sizes[stop - 1])])
        best = wider
        if len(sizes) in best:
            everything.append(best[len(sizes)])
    return min(everything)[1]


def to_buckets(sentences: np.ndarray, bounds: Sequence[int]) -> tuple[np.ndarray, ...]:
    """Sentences by length, each bucket padded to its bound.

    Args:
      sentences: [N, L], padded by -1.
      bounds: increasing lengths, the last one at least the largest of all.

    Returns:
      For each bound that has sentences, an array [n, bound].
    """
    lengths = np.asarray(pcfg.num_words(sentences))
    place = np.searchsorted(bounds, lengths)
    return tuple(
        np.asarray(sentences)[place == index, :bound]
        for index, bound in enumerate(bounds)
        if (place == index).any()
    )
