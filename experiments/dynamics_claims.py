r"""Why do larger models recover more? The claims, decided on the committed tables.

    python -m experiments.dynamics_claims

Reads the tables in experiments/dynamics/, decides by the rule in
experiments/dynamics.md, prints the tables that stand there, and draws the figures into
experiments/figures/. Half a minute. What has no table is named.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.cli.claims import Claims, Tables, decide
from experiments.cli.verdicts import (
    Block,
    Table,
    Verdict,
    above,
    alike,
    at,
    direction,
    together,
)
from experiments.course import kaplan_meier, undecided_share
from lvm_jax import report
from lvm_jax.dynamics import STATES
from lvm_jax.report import Comparison, Interval, style
from lvm_jax.report.latents import STATE_COLORS
from lvm_jax.report.rows import group

_LEVELS = (8, 16, 32, 64)
_EARLY = (0.1111, 0.2222, 0.3333)
_ALONG = (1, 10, 30, 100, 200)
TIMES = (1, 3, 10, 30, 100)
_DATASETS = ("IMG", "CON8")
_ALIKE = 0.5  # truths, of a difference that makes none
_PRACTICAL_RANK = 0.4
_NOISE = ("IMG", "UNIF", "CON8")
_NOISE_LEVELS = (8, 16, 32)
_LOWER = ("rloo8", "local_expectation", "batch80")
_ADDED = ("noisy1", "noisy3")
_ESTIMATORS = ("nvil", *_ADDED, "batch80", "rloo2", "rloo4", "rloo8", _LOWER[1])
_NUM_TRUTHS = 8
_NUM_RUNS = 64  # of each cell of surplus latents

Rows = Sequence[Mapping[str, Any]]


def _moments(rows: Rows) -> Iterator[Block]:
    lines, early_says, along_says = [], {}, {}
    for limit, level in itertools.product((0.75, 0.5), _LEVELS):
        own = at(rows, level=level, limit=limit)
        early = [undecided_share(at(own, epoch=epoch)) for epoch in _EARLY]
        num_runs = len({row["run"] for row in own})
        along = [_contending(at(own, epoch=epoch)) for epoch in _ALONG]
        lines.append(
            [f"{limit:g}", str(level)]
            + [
                share.format(2) + (f" of {number} runs" if number < num_runs else "")
                for share, number in early
            ]
            + [share.format(0, 100) for share in along]
        )
        of = f"{level} at limit {limit:g}"
        early_says[of] = together(above(share, 0.5) for share, _ in early)
        along_says[of] = together(above(share, 0.5) for share in along)
    yield Table(
        ["limit", "latents", *(f"undecided at {n}/9" for n in (1, 2, 3))]
        + [f"runs with contention at {epoch}, %" for epoch in _ALONG],
        lines,
    )
    yield Verdict("undecided early", early_says)
    yield Verdict("contending all along", along_says)


def _contending(rows: Rows) -> Interval:
    return report.share_interval(sum(row["contending"] > 0 for row in rows), len(rows))


def _starts(rows: Rows) -> Iterator[Block]:
    adjusted = report.holm([row["p_value"] for row in rows])
    lines, says = [], {}
    for row, p_value in zip(rows, adjusted, strict=True):
        rank = Interval(row["rank"], row["low"], row["high"])
        if row["epoch"] == 0:
            is_below = p_value < 0.05 and rank.estimate < 0.5
            is_large = rank.estimate < _PRACTICAL_RANK
            verdict = "refuted" if is_below else "not refuted"
            verdict += ", of practical size" if is_below and is_large else ""
            says[f"{row['level']}"] = verdict
        text = "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
        cells = [f"{row['level']}", _moment(row["epoch"]), f"{row['num_truths']}"]
        cells += [f"{rank.format(3)}, {text}"]
        cells += [f"{100 * row['nearest']:.0f} ({100 / row['level']:.0f})"]
        lines.append(cells)
    headings = ["latents", "epochs", "truths", "rank (one half by chance)"]
    headings += ["nearest of all, % (by chance)"]
    yield Table(headings, lines)
    yield Verdict("no latent is near its truth at the start", says)


def _moment(epoch: float) -> str:
    return "1/9" if 0 < epoch < 1 else f"{epoch:g}"


def _named(rows: Rows, name: str) -> list[dict[str, Any]]:
    """Rows of another level, so that they are not paired with those of their own."""
    return [{**row, "level": name} for row in rows]


def _alike(difference: Comparison) -> str:
    return alike(difference, _ALIKE)


def _truths(rows: Rows) -> Interval:
    values = [row["num_recovered"] for row in rows]
    return report.mean_interval(values, (0, _NUM_TRUTHS))


def _less(rows: Rows, others: Rows) -> Comparison:
    return report.compare(rows, others, "num_recovered", (0, _NUM_TRUTHS))


def _nearest(late: Rows, nearest: Rows) -> Iterator[Block]:
    family = {
        level: _less(_named(nearest, "nearest"), at(late, level=level))
        for level in (8, 16, 64)
    }
    lines = [["nearest 8 of 64", _truths(nearest).format(2), "", ""]]
    for level, difference in report.adjust(family).items():
        cells = [f"{level}", _truths(at(late, level=level)).format(2)]
        lines.append([*cells, difference.format(2), _alike(difference)])
    yield Table(["latents", "truths of 8", "nearest less these", ""], lines)
    of_sixteen = _alike(report.adjust(family)[16])
    says = {"less": "holds", "alike": "refuted", "more": "refuted"}
    yield Verdict("no warm start", {"": says.get(of_sixteen, "undecided")})


def _with_time(tables: Tables, name: str, time: int) -> list[Mapping[str, Any]]:
    return at(tables.rows(name), at=time)


def _surplus(dataset: str, tables: Tables) -> Iterator[Block]:
    yield from tables.lacking(f"{dataset}_{name}" for name in ("late", *_CHANGES))
    late = tables.rows(f"{dataset}_late")
    if not late:
        return
    pruned, grown = f"{dataset}_pruned", f"{dataset}_grown"
    few, many = (at(late, level=level) for level in (8, 16))
    lines = [
        ["8 throughout", "", _truths(few).format(2), "", ""],
        ["16 throughout", "", _truths(many).format(2), "", ""],
    ]
    if some := tables.rows(f"{dataset}_ten"):
        differences = [_less(some, others).format(2) for others in (few, many)]
        lines.append(["10 throughout", "", _truths(some).format(2), *differences])
    families = {
        "pruned": {
            (time, "16"): _less(_as_of(_with_time(tables, pruned, time), many), many)
            for time in TIMES
            if _with_time(tables, pruned, time)
        },
        "grown": {
            (time, name): _less(_named(grown_then, "grown"), others)
            for time in TIMES
            for name, others in (("8", few), ("16", many))
            if (grown_then := _with_time(tables, grown, time))
        },
        "renewed": _renewed(tables, dataset, few, many),
    }
    for name, family in families.items():
        found = report.adjust(family)
        for time in dict.fromkeys(time for time, _ in found):
            rows = _with_time(tables, f"{dataset}_{name}", time)
            cells = [name, f"{time}", _truths(rows).format(2)]
            for other in ("8", "16"):
                difference = found.get((time, other))
                cells.append(
                    f"{difference.format(2)}: {_alike(difference)}"
                    if difference
                    else ""
                )
            lines.append(cells)
    yield Table(["", "e", "truths of 8", "less 8", "less 16"], lines)
    so_far = f"of {len(many)} runs of {_NUM_RUNS}, " if len(many) < _NUM_RUNS else ""
    for name, family in families.items():
        if family:
            says = _surplus_verdict(name, report.adjust(family))
            yield Verdict(f"{dataset} {name}", {"": f"{so_far}{says}"})
    others = [
        f"{time}: {_truths(rows).format(2)}"
        for time in TIMES
        if (rows := _with_time(tables, f"{dataset}_renewed", time))
    ]
    if others:
        yield f"renewed every e epochs, truths of 8 by e: {'; '.join(others)}"


def _surplus_verdict(name: str, found: Mapping[Any, Comparison]) -> str:
    """What the differences of a cell say, by the rule."""
    ways = {key: _alike(difference) for key, difference in found.items()}
    if name == "pruned":
        less = [time for (time, _), way in ways.items() if way == "less"]
        last = max(less, default=0)
        later = [way for (time, _), way in ways.items() if time > last]
        is_known = later and all(way == "alike" for way in later)
        if not is_known:
            return "undecided"
        first = min(time for (time, _) in ways if time > last)
        until = f"surplus matters up to {last} epochs, and " if less else ""
        return f"{until}surplus does not matter from {first} on"
    if name == "grown":
        texts = []
        for level in ("8", "16"):
            times = {}
            for (time, of), way in ways.items():
                if of == level:
                    times.setdefault(way, []).append(str(time))
            of_ways = (f"{way} at {' '.join(at)}" for way, at in times.items())
            texts.append(f"than {level}: {', '.join(of_ways)}")
        return "; ".join(texts)
    of_few, of_many = ways.values()
    if of_many in ("alike", "more"):
        return "renewal is the point, not size"
    if of_few == "more" and of_many == "less":
        return "renewal is a part of it"
    return "renewal is not it" if of_few in ("alike", "less") else "undecided"


def _as_of(rows: Rows, others: Rows) -> list[dict[str, Any]]:
    """Rows that are paired by seed with others of their level."""
    return [{**row, "level": others[0]["level"]} for row in rows]


def _renewed(
    tables: Tables, dataset: str, few: Rows, many: Rows
) -> dict[Any, Comparison]:
    """Of the time with the highest objective, less both levels."""
    of_times = {time: _with_time(tables, f"{dataset}_renewed", time) for time in TIMES}
    known = {time: rows for time, rows in of_times.items() if rows}
    if not known:
        return {}
    best = max(known, key=lambda time: _mean_objective(known[time]))
    return {
        (best, "8"): _less(known[best], few),
        (best, "16"): _less(_named(known[best], "renewed"), many),
    }


def _mean_objective(rows: Rows) -> float:
    """That of a run without a model to keep is the least there is."""
    values = np.array([row["objective"] for row in rows], float)
    return np.where(np.isnan(values), -np.inf, values).mean()


def _settled(rows: Rows, contentions: Rows) -> Iterator[Block]:
    lines = []
    for level in _LEVELS:
        own = at(rows, level=level)
        epochs, shares = kaplan_meier(own)
        by = [shares[epochs <= epoch][-1:].sum() for epoch in (1, 3, 10, 30, 100)]
        cells = [f"{level}", *(f"{100 * share:.0f}" for share in by)]
        for is_late in (False, True):
            some = at(contentions, level=level, is_late=is_late)
            of_runs = sum(row["ended"] > 0 for row in some)
            cells.append(f"{sum(row['ended'] for row in some)} of {of_runs} runs")
            for won, of in (("nearer_left", "ended"), ("first_left", "known_first")):
                shares_of_runs = [row[won] / row[of] for row in some if row[of]]
                share = report.mean_interval(shares_of_runs, (0, 1))
                cells.append(share.format(2) if shares_of_runs else "-")
        lines.append(cells)
    yield Table(
        ["latents", *(f"settled by {n}, %" for n in (1, 3, 10, 30, 100))]
        + [
            f"{what}, {when}"
            for when in ("first ten epochs", "later")
            for what in ("contentions with one left", "the nearer", "the first")
        ],
        lines,
    )


def _contenders(rows: Rows) -> Iterator[Block]:
    yield "Truths that latents contend for, in all runs; their contenders:"
    headings = ["latents", "epochs", "truths", "all parts", "all copies", "both"]
    yield Table(
        headings,
        [
            [str(row["level"]), _moment(row["epoch"])]
            + [str(row[name]) for name in ("truths", "parts", "copies", "both")]
            for row in rows
            if row["epoch"] in _ALONG
        ],
    )


def _noise(tables: Tables) -> Iterator[Block]:
    names = (*_ESTIMATORS, "variances")
    yield from tables.lacking(
        f"{of}_{name}" for of, name in itertools.product(_NOISE, names)
    )
    yield from _of_estimators(
        {
            (dataset, name): rows
            for dataset, name in itertools.product(_NOISE, _ESTIMATORS)
            if (rows := tables.rows(f"{dataset}_{name}"))
        }
    )
    yield from _variances(
        [row for dataset in _NOISE for row in tables.rows(f"{dataset}_variances")]
    )


def _of_estimators(tables: Mapping[tuple[str, str], Rows]) -> Iterator[Block]:
    if not tables:
        return
    levels = sorted({row["level"] for rows in tables.values() for row in rows})
    places = [
        (dataset, level, name)
        for dataset, level, name in itertools.product(_NOISE, levels, _ESTIMATORS)
        if at(tables.get((dataset, name), ()), level=level)
    ]
    family = {
        (dataset, level, name): _less(
            _named(at(tables[dataset, name], level=level), name),
            at(tables[dataset, "nvil"], level=level),
        )
        for dataset, level, name in places
        if name != "nvil" and at(tables.get((dataset, "nvil"), ()), level=level)
    }
    found = report.adjust(family)
    headings = ["data", "latents", "estimator", "rate", "truths of 8"]
    headings += ["full recovery, %", "held-out ELBO, nats"]
    headings += [f"less nvil (family of {len(family)})", ""]
    lines = []
    for dataset, level, name in places:
        rows = at(tables[dataset, name], level=level)
        full = report.share_interval(
            sum(row["num_recovered"] == _NUM_TRUTHS for row in rows), len(rows)
        )
        elbo = report.mean_interval([row["held_out_elbo"] for row in rows])
        difference = found.get((dataset, level, name))
        cells = [dataset, f"{level}", name, f"{rows[0]['rate']:g}"]
        cells += [_truths(rows).format(2), full.format(0, 100), elbo.format(2)]
        if difference:
            cells += [difference.format(2), direction(difference)]
        lines.append([*cells, "", ""][: len(headings)])
    yield Table(headings, lines)
    harms = {}
    for what, names in (("lower variance", _LOWER), ("added noise", _ADDED)):
        of_cells = {}
        for (dataset, level, name), own in found.items():
            if name in names:
                of_cells.setdefault((dataset, level), set()).add(direction(own))
        less, more = (
            sum(way in ways for ways in of_cells.values()) for way in ("less", "more")
        )
        harms[what] = less - more
        yield f"{what}: less at {less}, more at {more} of {len(of_cells)} cells"
    says = noise_verdict(*harms.values())
    asked = set(itertools.product(_NOISE, _NOISE_LEVELS, _LOWER + _ADDED))
    if lacking := asked - found.keys():
        says = (
            f"not decided: {len(lacking)} of {len(asked)} comparisons are lacking, "
            f"by the others {says}"
        )
    yield Verdict("noise helps", {"": says})


def noise_verdict(lower: int, added: int) -> str:
    """What lower variance and added noise say of the claim that noise helps.

    Args:
      lower: cells that lower variance harms, less those that it helps.
      added: likewise, of added noise.
    """
    if lower < 0:
        return "refuted"
    return "holds" if lower > 0 and added <= 0 else "undecided"


def _variances(rows: Rows) -> Iterator[Block]:
    if not rows:
        return
    yield "Variance of q's gradient by the squared length of its mean:"
    moments = sorted({row["epoch"] for row in rows})
    lines = []
    for (dataset, name), own in group(rows, "dataset", "estimator").items():
        values = [
            [row["relative_variance"] for row in at(own, epoch=moment)]
            for moment in moments
        ]
        cells = [f"{np.median(of):.3g}" if of else "-" for of in values]
        lines.append([dataset, name, *cells])
    yield Table(["data", "estimator", *(f"{n} epochs" for n in moments)], lines)


_COLORS = dict(zip(STATES, STATE_COLORS, strict=True))
_MARKERS = dict(zip(STATES, ("", "s", "o", "^"), strict=True))


def _over_epochs(axes: Axes) -> None:
    """A logarithmic axis from the first records of an epoch to the last epoch."""
    axes.set(xscale="log", xlabel="epochs", xlim=(0.02, 250))
    axes.set_xticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes.minorticks_off()


@style.styled()
def plot_states(rows: Rows, limit: float) -> Figure:
    """How many latents are in each state by epoch, a panel for each level.

    Args:
      rows: of states.csv.
      limit: within which a latent has come to a truth.
    """
    figure = style.new_figure(8.4, 2.4)
    panels = figure.subplots(1, len(_LEVELS))
    for axes, level in zip(panels, _LEVELS, strict=True):
        for state in STATES:
            own = at(rows, level=level, limit=limit, state=state)
            epochs, means, low, high = (
                np.array([row[name] for row in own])
                for name in ("epoch", "mean", "low", "high")
            )
            axes.plot(
                epochs,
                means,
                color=_COLORS[state],
                marker=_MARKERS[state],
                markevery=8,
                ms=3.5,
                label=state,
            )
            axes.fill_between(
                epochs, low, high, means > 0, color=_COLORS[state], alpha=0.25, lw=0
            )
        _over_epochs(axes)
        axes.set_title(f"{level} latents")
        axes.set_ylim(0, min(level + 0.3, 16.3))
    panels[0].set_ylabel("latents, mean over runs")
    style.add_legend(figure, *panels[0].get_legend_handles_labels())
    return figure


@style.styled()
def plot_settled(settled: Rows, agreement: Rows) -> Figure:
    """Truths settled by epoch; assignments as at several ends, beside the ELBO.

    Args:
      settled: rows of settled.csv.
      agreement: rows of agreement.csv.
    """
    figure = style.new_figure(8.4, 2.9)
    left, middle, right = figure.subplots(1, 3)
    for index, level in enumerate(_LEVELS):
        epochs, shares = kaplan_meier(at(settled, level=level))
        epochs = np.maximum(epochs, 1 / 45)
        marker = {"marker": "os^D"[index], "markevery": 0.15, "ms": 3.5}
        left.step(epochs, shares, where="post", label=f"{level}", **marker)
        own = at(agreement, level=level, end=200)
        right.plot(
            [row["epoch"] for row in own],
            [row["held_out_elbo"] for row in own],
            **marker,
        )
    for end, line in zip((10, 50, 200), (":", "--", "-"), strict=True):
        for level, color in ((8, "C0"), (16, "C1")):
            own = at(agreement, level=level, end=end)
            epochs = [row["epoch"] for row in own]
            middle.plot(epochs, [row["mean"] for row in own], line, color=color)
            middle.annotate(
                f"{end}", (end, _NUM_TRUTHS), fontsize=7, ha="center", va="bottom"
            )
    for axes in (left, middle, right):
        _over_epochs(axes)
    left.set(ylabel="share of truths settled for good", ylim=(0, 1))
    middle.set(ylabel="assignments as at the end, of 8", ylim=(0, 8.8))
    right.set(ylabel="held-out ELBO, nats", ylim=(-20, -12))
    style.add_legend(figure, *left.get_legend_handles_labels(), "latents")
    return figure


@style.styled()
def plot_times(tables: Tables) -> Figure:
    """Truths recovered where latents change after e epochs, between two levels."""
    late = {name: tables.rows(f"{name}_late") for name in _DATASETS}
    late = {name: rows for name, rows in late.items() if rows}
    figure = style.new_figure(7.6, 3.0)
    panels = figure.subplots(1, len(late), sharey=True, squeeze=False)[0]
    for axes, (dataset, rows) in zip(panels, late.items(), strict=True):
        for level, color in ((8, "0.5"), (16, "black")):
            middle, low, high = _truths(at(rows, level=level))
            dashes = (0, (4, 2) if level == 16 else (1, 1.5))
            label = f"{level} throughout"
            axes.axhline(middle, color=color, ls=dashes, lw=1.2, label=label)
            axes.axhspan(low, high, color=color, alpha=0.15, lw=0)
        for index, (name, label) in enumerate(_CHANGES.items()):
            known = [
                (time, _truths(found))
                for time in TIMES
                if (found := _with_time(tables, f"{dataset}_{name}", time))
            ]
            if not known:
                continue
            times, intervals = zip(*known, strict=True)
            middle, low, high = np.array(intervals).T
            axes.errorbar(
                np.array(times) * (1 + 0.06 * (index - 1)),
                middle,
                np.maximum([middle - low, high - middle], 0),
                fmt=f"{'os^'[index]}-",
                ms=4,
                lw=1,
                label=label,
            )
        axes.set(xscale="log", title=dataset, xlabel="e, epochs", xlim=(0.8, 130))
        axes.set_xticks(TIMES, [f"{time}" for time in TIMES])
        axes.minorticks_off()
    panels[0].set_ylabel("truths recovered of 8")
    style.add_legend(figure, *panels[0].get_legend_handles_labels())
    return figure


_CHANGES = {
    "pruned": "16, after e the survivors of the filter",
    "grown": "8, after e with 8 fresh ones",
    "renewed": "8, every e epochs dropped ones anew",
}


def _section(
    make: Callable[..., Iterator[Block]], *names: str
) -> Callable[[Tables], Iterator[Block]]:
    """A section of tables, or the names of those that are not there."""

    def decided(tables):
        lacking = list(tables.lacking(names))
        yield from lacking or make(*map(tables.rows, names))

    return decided


def _draw(tables: Tables) -> Iterator[tuple[str, Figure]]:
    if states := tables.rows("states"):
        for limit in (0.75, 0.5):
            yield f"dynamics_states_{100 * limit:.0f}", plot_states(states, limit)
        settled, agreement = map(tables.rows, ("settled", "agreement"))
        yield "dynamics_settled", plot_settled(settled, agreement)
    if any(tables.rows(f"{dataset}_late") for dataset in _DATASETS):
        yield "dynamics_times", plot_times(tables)


CLAIMS = Claims(
    "dynamics",
    {
        "1, 2. Undecided early, contending all along": _section(_moments, "moments"),
        "3a. Is the latent that recovers a truth near it at the start?": _section(
            _starts, "starts"
        ),
        "3b. Started from the nearest of 64": _section(
            _nearest, "IMG_late", "IMG_nearest"
        ),
        **{
            f"4. When surplus latents matter: {dataset}": functools.partial(
                _surplus, dataset
            )
            for dataset in _DATASETS
        },
        "5. What is settled when, and who is left": _section(
            _settled, "settled", "contentions"
        ),
        "5. Who contends": _section(_contenders, "contenders"),
        "6. Does noise help?": _noise,
    },
    _draw,
)


if __name__ == "__main__":
    decide(CLAIMS)
