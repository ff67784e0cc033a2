r"""Recovery of grammars by level of overparameterization.

    python -m experiments.neural_pcfg --workdir runs/small --levels 5,10 \
        --num_seeds 2 --epochs 3 --max_words 10 --num_samples 2000 --num_buckets 1

Draws sentences from a grammar of English with 10 nonterminals and 10 preterminals, 6000
by default, learns neural PCFGs of 10, 20 and 30 symbols of each kind from them, and
compares their Viterbi trees of new sentences with the true grammar's. The true grammar
may instead be random, read from a file, or learned from a corpus, one sentence a line.
The command above takes two minutes, most of it compiling, and is too short for a claim.
The study takes one sentence a step: --mode faithful.
"""

import dataclasses
import functools
import os
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags

from experiments import cli, runner, true_grammar
from experiments.true_grammar import Truth
from lvm_jax import archive, figures, report, results
from lvm_jax.data import pcfg as data
from lvm_jax.learners.neural_pcfg import NeuralPcfgConfig, neural_pcfg, score
from lvm_jax.models import neural_pcfg as model
from lvm_jax.models import parse, pcfg
from lvm_jax.models.pcfg import Live, Pcfg
from lvm_jax.results import Row
from lvm_jax.sweep import Kept, Sweep
from lvm_jax.types import Buckets, Dataset, Level, Recovery

_LEVELS = cli.define_levels([10, 20, 30])
_MODE = flags.DEFINE_enum(
    "mode",
    "batched",
    ["batched", "faithful"],
    "faithful: one sentence a step and Adam at 0.001, as in the paper; batched: "
    "--batch_size sentences a step and Adam at 0.002.",
)
_LEARNING_RATE = flags.DEFINE_float(
    "learning_rate", None, "Adam's learning rate, else by --mode.", lower_bound=0.0
)
_TRUTH_ONLY = flags.DEFINE_bool(
    "truth_only", False, "Write the true grammar, and learn nothing from it."
)
_DATA_SEED = flags.DEFINE_integer(
    "data_seed", 0, "Seed of a random or learned true grammar, and of the sentences."
)
_NUM_SAMPLES = flags.DEFINE_integer(
    "num_samples",
    6000,
    "Sentences to draw, held-out ones included; 6000 of the paper's 51 000.",
    lower_bound=3,
)
_NUM_TEST = flags.DEFINE_integer(
    "num_test", 1000, "Further sentences that the final measures are of.", lower_bound=1
)
_NUM_PARSED = flags.DEFINE_integer(
    "num_parsed", 200, "Held-out sentences that are parsed every epoch.", lower_bound=1
)
_MIN_WORDS = flags.DEFINE_integer("min_words", 2, "Least words of a sentence.")
_MAX_WORDS = flags.DEFINE_integer(
    "max_words", 20, "Most words of a sentence, 40 in the paper."
)
_NUM_BUCKETS = flags.DEFINE_integer(
    "num_buckets", 3, "Lengths that sentences are padded to, at most.", lower_bound=1
)
for _module in (cli, runner, true_grammar):
    flags.adopt_module_key_flags(_module)
flags.FLAGS.set_default("epochs", 12)
flags.FLAGS.set_default("batch_size", 16)
flags.FLAGS.set_default("block", 1)
# An epoch of a sweep of grammars takes minutes.
flags.FLAGS.set_default("epochs_per_call", 1)
flags.FLAGS.set_default("checkpoint_every", 1)

_NUM_PICTURED = 4
_MEASURES = {
    "test_nll": "test NLL per word",
    "test_f1": "F1",
    "test_f1_inner": "F1, inner spans",
    "num_nonterminals_recovered": "nonterminals recovered",
}


class Parsed(NamedTuple):
    """Sentences in buckets, and their true trees.

    Attributes:
      sentences: arrays [n, L], padded by -1.
      spans: arrays [n, L - 1, 3].
    """

    sentences: tuple[jax.Array, ...]
    spans: tuple[jax.Array, ...]


def _batch_size() -> int:
    return 1 if _MODE.value == "faithful" else flags.FLAGS.batch_size


def _learner_config() -> NeuralPcfgConfig:
    rate = {"faithful": 0.001, "batched": 0.002}[_MODE.value]
    return NeuralPcfgConfig(_LEARNING_RATE.value or rate)


def _draw(truth: Truth, seed: int, num_samples: int) -> Dataset:
    key = jax.random.fold_in(jax.random.key(_DATA_SEED.value), seed)
    return data.from_truth(
        truth.name,
        key,
        truth.grammar,
        num_samples,
        min_words=_MIN_WORDS.value,
        max_words=_MAX_WORDS.value,
    )


def _check_memory(levels: Sequence[Level], num_runs: int) -> None:
    """Estimates the memory of a level's runs: parameters, Adam's, charts.

    Raises:
      ValueError: if the machine has less.
    """
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for num, preterminals in levels:
        params = (num + preterminals) ** 2 * model.DIMENSION
        words = _batch_size() * _MAX_WORDS.value
        charts = words * num * (4 * _MAX_WORDS.value + 5 * num)
        needed = 4 * num_runs * (5 * params + charts)
        if needed > available:
            raise ValueError(
                f"expected levels that fit into {available / 2**30:.0f} GiB of memory, "
                f"got {results.level_name((num, preterminals))} that needs about "
                f"{needed / 2**30:.0f}"
            )


def _parse(grammar: Pcfg, sentences: Sequence[np.ndarray]) -> Parsed:
    viterbi = jax.jit(parse.viterbi)
    spans = tuple(viterbi(grammar, bucket) for bucket in sentences)
    return Parsed(tuple(map(jnp.asarray, sentences)), spans)


def _recover(truth: Pcfg, parsed: Parsed, params: Any, live: Any) -> Recovery:
    live = Live(*live)
    grammar = model.grammar(params, live)
    spans, usage = parse.compare(grammar, *parsed, truth.log_root.size)
    return parse.recover(truth, grammar, usage, spans, live)


def _nll(grammar: Pcfg, sentences: Sequence[jax.Array]) -> float:
    log_likelihood, num_words = jax.jit(score)(grammar, sentences)
    return float(-log_likelihood / num_words)


def _test_rows(truth: Pcfg, test: Parsed, kept: dict[Level, Kept]) -> list[Row]:
    """The columns of each run that hold its measures on the test sentences."""

    @jax.jit
    def measure(params, live):
        grammar = model.grammar(params, Live(*live))
        log_likelihood, num_words = score(grammar, test.sentences)
        spans, _ = parse.compare(grammar, *test, truth.log_root.size)
        return {
            "test_nll": -log_likelihood / num_words,
            "test_f1": spans.f1(),
            "test_f1_inner": spans.f1_inner(),
        }

    rows = []
    for models in kept.values():
        for run in range(len(models.epoch)):
            own = jax.tree.map(lambda leaf, run=run: leaf[run], models)
            values = jax.device_get(measure(own.params, own.live))
            rows.append({name: value.item() for name, value in values.items()})
    return rows


def _print_truth(truth: Truth, test: Parsed) -> float:
    """The truth's own measures and those of trees that nothing was learned for."""
    nll = _nll(truth.grammar, test.sentences)
    num_sentences = sum(int(pcfg.has_tree(x).sum()) for x in test.sentences)
    num_words = sum(int(pcfg.num_words(x).sum()) for x in test.sentences)
    share = data.log_length_share(truth.grammar, _MIN_WORDS.value, _MAX_WORDS.value)
    conditioned = nll + share * num_sentences / num_words
    print(
        f"test NLL per word of the truth: {nll:.4f}; given lengths of "
        f"{_MIN_WORDS.value} to {_MAX_WORDS.value} words, which have a share of "
        f"{np.exp(share):.3f} of its sentences: {conditioned:.4f}"
    )
    num = truth.grammar.log_root.size
    for name, is_left in (("left", True), ("right", False)):
        trees = [parse.branching(x, left=is_left) for x in test.sentences]
        _print_f1(f"{name}-branching", test, trees, num)
    live = Live(np.ones(num), np.ones(len(truth.grammar.log_emissions)))
    init = jax.jit(model.init, static_argnums=2)
    params = init(jax.random.key(_DATA_SEED.value), live, len(truth.words))
    trees = _parse(model.grammar(params, live), test.sentences).spans
    _print_f1("untrained", test, trees, num)
    return conditioned


def _print_f1(name: str, test: Parsed, trees: Sequence[jax.Array], num: int) -> None:
    parts = [
        parse.count_spans(true, other, num, num)
        for true, other in zip(test.spans, trees, strict=True)
    ]
    counts = jax.tree.map(lambda *values: sum(values), *parts)
    print(f"F1 of {name} trees: {counts.f1():.3f}, inner {counts.f1_inner():.3f}")


def _plot_trees(
    path: pathlib.Path, truth: Truth, test: Parsed, kept: dict[Level, Kept]
) -> None:
    """Trees of the first run at the first level with more symbols than the truth."""
    num = truth.grammar.log_root.size
    level = next((level for level in kept if level[0] > num), next(iter(kept)))
    own = jax.tree.map(lambda leaf: leaf[0], kept[level])
    grammar = model.grammar(own.params, Live(*own.live))
    bucket = len(test.sentences) // 2
    sentences = np.asarray(test.sentences[bucket][:_NUM_PICTURED])
    learned = np.asarray(jax.jit(parse.viterbi)(grammar, sentences))
    true = np.asarray(test.spans[bucket][:_NUM_PICTURED])
    figures.plot_trees(
        [[truth.words[word] for word in row if word >= 0] for row in sentences],
        [spans[spans[:, 0] >= 0] for spans in true],
        [spans[spans[:, 0] >= 0] for spans in learned],
        path,
        f"{truth.name}: first run with {results.level_name(level)} symbols",
    )


def _report(
    workdir: pathlib.Path,
    truth: Truth,
    kept: dict[Level, Kept],
    test: Parsed,
    true_nll: float,
) -> None:
    """Prints the table and draws the figures, from the tables in the workdir."""
    kept_rows = results.read_rows(workdir / results.KEPT)
    history = results.read_rows(workdir / results.HISTORY)
    num_preterminals = len(truth.grammar.log_emissions)
    summaries = report.summarise(kept_rows, num_preterminals, list(_MEASURES))
    print("recovered, full and exact are of preterminals")
    print(report.format_table(summaries, num_preterminals, _MEASURES, digits=3))
    for line in report.format_differences(kept_rows, _MEASURES, digits=3):
        print(line)
    folder = workdir / "figures"
    for name, label, of_truth in (
        ("test_nll", "test NLL per word, nats", true_nll),
        ("test_f1", "F1 with the true trees", None),
    ):
        figures.plot_measure(
            kept_rows,
            name,
            folder / f"{name}.png",
            label=label,
            title=truth.name,
            truth=of_truth,
        )
    for name, label in (
        ("held_out_nll", "held-out NLL per word, nats"),
        ("f1", "F1 with the true trees"),
    ):
        path = folder / f"{name}_by_epoch.png"
        figures.plot_measure_by_epoch(
            history, name, path, label=label, title=truth.name
        )
    _plot_trees(folder / "trees.png", truth, test, kept)


def _truth_arrays(truth: Truth) -> dict[str, Any]:
    return truth.grammar._asdict() | {"words": np.array(truth.words)}


def main() -> None:
    """Runs the sweep that the flags ask for and reports on it."""
    job = runner.start(_LEVELS.value)
    levels = tuple((size, size) for size in job.config.levels)
    job = job._replace(
        config=dataclasses.replace(
            job.config, levels=levels, batch_size=_batch_size(), snapshot_every=1
        )
    )
    _check_memory(levels, len(job.config.seeds))
    truth = true_grammar.load(
        job.devices[:1],
        seed=_DATA_SEED.value,
        min_words=_MIN_WORDS.value,
        max_words=_MAX_WORDS.value,
        num_buckets=_NUM_BUCKETS.value,
    )
    dataset = _draw(truth, 0, _NUM_SAMPLES.value)
    if _TRUTH_ONLY.value:
        with runner.opened(job, dataset) as workdir:
            archive.write(workdir / results.TRUTH, _truth_arrays(truth))
        return
    held_out, train = runner.split(dataset.samples)
    bounds = data.bucket_lengths(
        pcfg.num_words(train), _NUM_BUCKETS.value, job.config.batch_size
    )
    bounds[-1] = max(bounds[-1], int(pcfg.num_words(held_out).max()))
    parsed = _parse(
        truth.grammar, data.to_buckets(held_out[: _NUM_PARSED.value], bounds)
    )
    test = _parse(
        truth.grammar,
        data.to_buckets(
            _draw(truth, 1, _NUM_TEST.value).samples, [*bounds[:-1], _MAX_WORDS.value]
        ),
    )
    recover = functools.partial(_recover, truth.grammar, parsed)
    learner = neural_pcfg(len(truth.words), _learner_config())

    def make_sweep(config):
        return Sweep(
            learner,
            recover,
            config,
            train=Buckets(data.to_buckets(train, bounds)),
            held_out=data.to_buckets(held_out, bounds),
            devices=job.devices,
        )

    with runner.trained(job, make_sweep, dataset, "nll") as trained:
        kept = trained.kept
        true_nll = _print_truth(truth, test)
        rows = runner.kept_rows(job, truth.name, "nll", kept, recover, sign=-1)
        measures = _test_rows(truth.grammar, test, kept)
        rows = [row | more for row, more in zip(rows, measures, strict=True)]
        learned = {results.level_name(level): models for level, models in kept.items()}
        results.write_sweep(
            trained.workdir, trained.history, rows, learned, _truth_arrays(truth)
        )
        _report(trained.workdir, truth, kept, test, true_nll)
    print(f"tables, parameters and figures are in {trained.workdir}")


if __name__ == "__main__":
    cli.run(main)
