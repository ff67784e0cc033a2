"""Sentences of a corpus, and sentences put into buckets of similar length."""

import codecs
import collections
import pathlib
import re
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

import numpy as np

from lvm_jax.files import regular
from lvm_jax.pcfg import grammar as pcfg
from lvm_jax.pcfg.grammar import PAD

UNKNOWN = "<unk>"
_GROWTH = 2.5  # power of the length that the time of a sentence grows with
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


def _text(file: BinaryIO, name: str) -> str:
    """The file's text, without a byte order mark, its line ends LF."""
    data = regular.read_text(file, name)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise ValueError(f"expected a corpus in UTF-8, got UTF-16 in {name}")
    data = data.removeprefix(codecs.BOM_UTF8)
    data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"expected a corpus in UTF-8, got byte {data[error.start]:#x} on line "
            f"{line} of {name}"
        ) from error
    control = _CONTROL.search(text)
    if control:
        line = text.count("\n", 0, control.start()) + 1
        raise ValueError(
            f"expected a corpus of text, got the control character {control.group()!r} "
            f"on line {line} of {name}"
        )
    return text


def _lines(path: pathlib.Path) -> list[list[str]]:
    name = regular.shown(path)
    with regular.open_file(path) as file:
        text = _text(file, name)
    if not text:
        raise ValueError(
            f"expected a sentence on each line, got {name}, which is empty"
        )
    lines = [line.split() for line in text.removesuffix("\n").split("\n")]
    for number, words in enumerate(lines, 1):
        if not words:
            raise ValueError(
                f"expected a sentence on each line, got none on line {number} of {name}"
            )
    return lines


def read_corpus(
    path: pathlib.Path | str,
    *,
    vocabulary: int,
    min_words: int = 2,
    max_words: int = 20,
) -> Corpus:
    """Reads a text with a sentence on each line, words separated by blanks.

    A line ends with LF, CR LF or CR, and nothing else does; any white space within it
    separates words, no-break spaces, form feeds and Unicode's line separators too. A
    byte order mark is no part of the first word.

    The vocabulary is `<unk>`, which stands for all other words, and the most frequent
    words of the lines that are kept.

    Args:
      path: a file in UTF-8.
      vocabulary: V, at most so many different words, `<unk>` included.
      min_words: shorter sentences are skipped; 2 at least.
      max_words: longer sentences are skipped.

    Returns:
      Corpus.

    Raises:
      ValueError: if the file is no regular one, is empty, not a text in UTF-8, has a
        line without words, or no sentence of such a length, if the vocabulary is below
        2, or the lengths make no sense.
      OSError: if the file cannot be read.
    """
    if vocabulary < 2:
        raise ValueError(f"expected a vocabulary of at least 2 words, got {vocabulary}")
    pcfg.check_lengths(min_words, max_words)
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
    for _ in range(min(num_buckets, len(sizes))):
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
