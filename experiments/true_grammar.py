"""The grammar that sentences are drawn from, and the flags that choose it."""

import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from absl import flags

from lvm_jax.data import pcfg as data
from lvm_jax.data.pcfg import Corpus
from lvm_jax.learners.neural_pcfg import neural_pcfg
from lvm_jax.models import neural_pcfg as model
from lvm_jax.models import pcfg
from lvm_jax.models.pcfg import Live, Pcfg
from lvm_jax.plan import SweepConfig
from lvm_jax.sweep import Sweep
from lvm_jax.types import Buckets, Recovery

_GRAMMAR = flags.DEFINE_string(
    "grammar",
    "english",
    "True grammar: english, the package's own, learned from sentences of WordNet; "
    "random; or an .npz file such as the truth.npz of a run.",
)
_CORPUS = flags.DEFINE_string(
    "corpus", None, "Learn the true grammar from this text, one sentence a line."
)
_VOCABULARY = flags.DEFINE_integer(
    "vocabulary",
    1000,
    "Words of the true grammar: of a corpus the most frequent ones, 10 000 in the "
    "paper; of a random grammar 100 unless this is given.",
    lower_bound=2,
)
_TRUE_SYMBOLS = flags.DEFINE_integer(
    "true_symbols", 10, "Symbols of each kind of the true grammar.", lower_bound=1
)
_TRUE_EPOCHS = flags.DEFINE_integer(
    "true_epochs",
    20,
    "Epochs to learn the true grammar for, 20 in the paper.",
    lower_bound=1,
)
_SHARPNESS = flags.DEFINE_float(
    "sharpness", 5.0, "Standard deviation of a random grammar's rule and word logits."
)
_RADIUS = flags.DEFINE_float(
    "radius", 0.93, "Largest spectral radius of a random grammar's expected offspring."
)

_RANDOM_VOCABULARY = 100
_BATCH = 4  # of a corpus, as in the study


class Truth(NamedTuple):
    """The true grammar with its name and vocabulary."""

    name: str
    grammar: Pcfg
    words: tuple[str, ...]


def _nothing_to_recover(params: Any, live: Any) -> Recovery:
    del params, live  # Unused.
    return Recovery(*[jnp.int32(0)] * 7, measures={})


def _learn(
    corpus: Corpus, devices: Sequence[jax.Device], seed: int, num_buckets: int
) -> Truth:
    """Learns a grammar from the corpus, the model of the last epoch."""
    path = pathlib.Path(_CORPUS.value)
    lengths = pcfg.num_words(corpus.sentences)
    print(
        f"{path}: {len(lengths)} sentences of {lengths.mean():.1f} words, "
        f"{len(corpus.words)} different ones, {(corpus.sentences == 0).sum()} unknown; "
        f"skipped {corpus.num_one_word} of one word, {corpus.num_outside} for length"
    )
    bounds = data.bucket_lengths(lengths, num_buckets, _BATCH)
    buckets = data.to_buckets(corpus.sentences, bounds)
    level = (_TRUE_SYMBOLS.value, _TRUE_SYMBOLS.value)
    sweep = Sweep(
        neural_pcfg(len(corpus.words)),
        _nothing_to_recover,
        SweepConfig(
            levels=(level,),
            seeds=(seed,),
            batch_size=_BATCH,
            epochs_per_call=1,
            snapshot_every=1,
        ),
        train=Buckets(buckets),
        held_out=tuple(bucket[:_BATCH] for bucket in buckets),
        devices=devices,
    )
    for chunk in sweep.train(sweep.init(), 0, _TRUE_EPOCHS.value):
        nll = chunk.records[0].train["nll"][0, -1]
        print(f"true grammar, epoch {chunk.epoch}: NLL per word {nll:.4f}")
    run = jax.tree.map(lambda leaf: leaf[0], chunk.runs[0])
    return Truth(
        path.stem, model.grammar(run.state.params, Live(*run.live)), corpus.words
    )


def load(
    devices: Sequence[jax.Device],
    *,
    seed: int,
    min_words: int,
    max_words: int,
    num_buckets: int,
) -> Truth:
    """The grammar that the flags ask for: read, learned from a corpus, or random.

    Args:
      devices: to learn on.
      seed: of a random or learned grammar.
      min_words: of the corpus' sentences; shorter ones are skipped.
      max_words: of the corpus' sentences; longer ones are skipped.
      num_buckets: lengths that the corpus' sentences are padded to, at most.

    Returns:
      Truth.

    Raises:
      ValueError: if both a grammar and a corpus are asked for, a file is not what it
        should be, or a value is out of range.
      OSError: if a file cannot be read.
    """
    if _CORPUS.value is not None:
        if flags.FLAGS["grammar"].present:
            raise ValueError("expected --grammar or --corpus, got both")
        if jax.process_count() > 1:
            raise ValueError(
                "expected one process to learn from --corpus, got "
                f"{jax.process_count()}: learn the grammar with --truth_only and give "
                "it as --grammar"
            )
        corpus = data.read_corpus(
            _CORPUS.value,
            vocabulary=_VOCABULARY.value,
            min_words=min_words,
            max_words=max_words,
        )
        return _learn(corpus, devices, seed, num_buckets)
    if _GRAMMAR.value == "random":
        return _draw(seed)
    path = pathlib.Path(_GRAMMAR.value)
    if _GRAMMAR.value == "english":
        path = data.ENGLISH
    elif not path.is_file():
        raise ValueError(f"expected english, random or a file as grammar, got {path}")
    return Truth(path.stem, *data.read_grammar(path))


def _draw(seed: int) -> Truth:
    """Draws a random grammar."""
    is_given = flags.FLAGS["vocabulary"].present
    num_words = _VOCABULARY.value if is_given else _RANDOM_VOCABULARY
    grammar = data.random_grammar(
        jax.random.key(seed),
        _TRUE_SYMBOLS.value,
        _TRUE_SYMBOLS.value,
        num_words,
        sharpness=_SHARPNESS.value,
        radius=_RADIUS.value,
    )
    words = tuple(f"w{index}" for index in range(num_words))
    name = f"random grammar {seed}, sharpness {_SHARPNESS.value:g}"
    return Truth(name, grammar, words)
