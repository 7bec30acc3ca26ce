"""The pictures of a report, as plotly.js takes them: plain dictionaries, so that nothing but plotly.js is needed.

Colours are names, `@run`, which the page replaces by those of the reader's theme. What there may be much of is drawn in
parts, or added up, and captions say so: a page of a hundred thousand slices is as quick to open as one of a hundred.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import msgspec
import numpy as np
import numpy.typing as npt

from h5flow.report.run import GENERATOR, PREFETCHER, Column, Run, WorkflowOnRank
from h5flow.report.wording import lasting
from h5flow.report.work import computing_spans, filled, loading_spans, overlaps, work_of

#: So many bars are drawn in a timeline, and so many slices are seen of them at first.
MOST_BARS, SEEN = 2400, 12
#: Into so many parts time is divided where it is shown as a whole.
BINS = 300
#: Timelines of more ranks aren't drawn.
MOST_RANKS = 6

Plot: TypeAlias = dict[str, Any]

_BOTH = "both at once"
_TICKS = {1e-6: "1 µs", 1e-5: "10 µs", 1e-4: "100 µs", 1e-3: "1 ms", 1e-2: "10 ms", 0.1: "100 ms", 1: "1 s", 10: "10 s"}
_TICKS |= {100: "100 s", 1000: "1000 s", 10000: "10,000 s"}
# An axis of names, also where these look like numbers.
_NAMES: Plot = {"type": "category", "categoryorder": "array"}
# What is done: name, colour.
_KINDS = {
    "make": ("making slices", "@make"),
    "ahead": ("loading ahead", "@ahead"),
    "load": ("loading at its moment", "@load"),
    "run": ("running", "@run"),
    "write": ("writing", "@write"),
}


class Variant(msgspec.Struct, frozen=True):
    """A picture of one rank."""

    label: str
    data: list[Plot]
    layout: Plot


class Figure(msgspec.Struct, frozen=True):
    """A picture with its title and a caption, of one or several ranks."""

    title: str
    caption: str
    variants: list[Variant]


def figures(run: Run, workflows: Sequence[WorkflowOnRank], first: int | None) -> list[Figure]:
    """Draw the pictures of a workflow; those that are of one rank begin with the rank `first`."""
    by_rank = {run.rank_of(each): each for each in workflows if len(each.slices)}
    if not by_rank:
        return []
    order = sorted(by_rank, key=lambda rank: (rank != first, rank))[:MOST_RANKS]
    shown = {f"rank {rank}": by_rank[rank] for rank in order}
    found = [_timeline(shown), _at_work(shown), _waiting(shown), _durations(shown)]
    if run.size > 1:
        found.append(_ranks(run, workflows))
    return found


# who works on what when


def _timeline(workflows: dict[str, WorkflowOnRank]) -> Figure:
    first = next(iter(workflows.values()))
    low, high = _drawn(first)
    total = len(first.slices)
    at = "in the middle of the run" if first.done is not None else "the last ones"
    part = "all slices" if high - low == total else f"slices {low:,} to {high - 1:,} of {total:,}, {at}"
    if first.is_sampled:
        part = f"{high - low:,} slices of a sample"
    if first.done is None:
        part += "; those that were on their way at the end (the red line) are in no log"
    seen = "where most overlaps" if first.done is not None else "the end"
    return Figure(
        "Who works on what, and when",
        "A bar is an actor at work on the slice whose number it bears. Where something is loaded while something else"
        " is computed, there is a bar in the last line. Writing calls, which are spread over a stage's run, are drawn"
        f" after it. Drawn: {part}; seen at first: {seen}. Drag to move, and zoom with the buttons that appear in the"
        " corner.",
        [Variant(label, *_bars(workflow)) for label, workflow in workflows.items()],
    )


def _drawn(workflow: WorkflowOnRank) -> tuple[int, int]:
    """Say which slices are drawn, by their place."""
    total = len(workflow.slices)
    count = min(total, max(SEEN, MOST_BARS // (3 + 3 * len(workflow.slices.stages))))
    # The last ones of a run that has no end, for there it ended.
    low = total - count if workflow.done is None else (total - count) // 2
    return low, low + count


def _bars(workflow: WorkflowOnRank) -> tuple[list[Plot], Plot]:
    slices = workflow.slices
    part = np.arange(*_drawn(workflow))
    number = slices.number[part].astype(int)
    rows = [
        f"{int(start):,}:{int(stop):,}" if start == start and start >= 0 else "no rows"
        for start, stop in zip(slices.start[part], slices.stop[part], strict=True)
    ]
    lanes = _lanes(slices.prefetch_began[part], slices.prefetch[part])
    names = [f"loader {lane + 1}" for lane in range(int(lanes.max()) + 1)] if (lanes >= 0).any() else []
    spans: list[tuple[str, list[str], Column, Column]] = [
        ("make", [GENERATOR] * len(part), slices.began[part], slices.generator[part])
    ]
    loaded = lanes >= 0
    spans.append(
        (
            "ahead",
            [f"loader {lane + 1}" if lane >= 0 else "" for lane in lanes],
            np.where(loaded, slices.prefetch_began[part], np.nan),
            slices.prefetch[part],
        )
    )
    for name, stage in slices.stages.items():
        began, load, run, write = (column[part] for column in (stage.began, stage.load, stage.run, stage.write))
        spans.append(("load", [_plain(name)] * len(part), began, load))
        spans.append(("run", [_plain(name)] * len(part), began + load, run))
        spans.append(("write", [_plain(name)] * len(part), began + load + run, write))
    data: list[Plot] = []
    for kind, (words, colour) in _KINDS.items():
        bars: dict[str, list[Any]] = {"y": [], "base": [], "x": [], "text": [], "customdata": [], "opacity": []}
        for each, lines, began, lasts in spans:
            if each != kind:
                continue
            for place in np.flatnonzero(lasts > 0):
                if began[place] == began[place]:
                    bars["y"].append(lines[place])
                    bars["base"].append(_round(began[place]))
                    bars["x"].append(_round(lasts[place]))
                    bars["text"].append(str(number[place]))
                    bars["customdata"].append([int(number[place]), rows[place], lasting(float(lasts[place]))])
                    bars["opacity"].append(1.0 if number[place] % 2 == 0 else 0.72)
        opacity = bars.pop("opacity")
        if bars["y"]:
            data.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": words,
                    **bars,
                    "marker": {"color": colour, "opacity": opacity, "line": {"width": 0}},
                    "textposition": "inside",
                    "insidetextanchor": "middle",
                    "textangle": 0,
                    "textfont": {"color": "@onahead" if kind == "ahead" else "@on", "size": 11},
                    "hovertemplate": f"slice %{{customdata[0]}} (rows %{{customdata[1]}})<br>{words} for"
                    " %{customdata[2]}<extra>%{y}</extra>",
                }
            )
    low, high = float(slices.began[part].min()), float(slices.ended[part].max())
    data.append(_both(workflow, low, high))
    lines = [GENERATOR, *names, *map(_plain, slices.stages), _BOTH]
    end = {"type": "line", "x0": workflow.ended, "x1": workflow.ended, "yref": "paper", "y0": 0, "y1": 1}
    return data, {
        "shapes": [] if workflow.done is not None else [end | {"line": {"color": "@bad", "width": 2}}],
        "barmode": "overlay",
        "bargap": 0.25,
        "height": 120 + 34 * len(lines),
        "dragmode": "pan",
        "xaxis": {"title": {"text": "seconds from the beginning of the job"}, "range": _seen(workflow, part)},
        "yaxis": _NAMES | {"categoryarray": lines[::-1], "fixedrange": True, "range": [-0.6, len(lines) - 0.4]},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }


def _both(workflow: WorkflowOnRank, low: float, high: float) -> Plot:
    """Plot where loading and computing go on at once."""
    began, ended = overlaps(loading_spans(workflow), computing_spans(workflow))
    near = (ended > low) & (began < high)
    return {
        "type": "bar",
        "orientation": "h",
        "name": "loading and computing at once",
        "y": [_BOTH] * int(near.sum()),
        "base": [_round(each) for each in began[near]],
        "x": [_round(each) for each in (ended - began)[near]],
        "marker": {"color": "@both", "line": {"width": 0}},
        "hovertemplate": "%{x:.4g} s<extra>loading and computing at once</extra>",
    }


def _lanes(began: Column, lasts: Column) -> Column:
    """Return for each slice the first loader that was free; -1 where nothing was loaded ahead."""
    lanes = np.full(len(began), -1)
    free: list[float] = []
    for place in np.argsort(np.where(np.isnan(began), np.inf, began), kind="stable"):
        if not lasts[place] > 0 or math.isnan(began[place]):
            continue
        lane = next((lane for lane, until in enumerate(free) if until <= began[place]), len(free))
        if lane == len(free):
            free.append(0.0)
        free[lane] = began[place] + lasts[place]
        lanes[place] = lane
    return lanes


def _seen(workflow: WorkflowOnRank, part: npt.NDArray[np.int_]) -> list[float]:
    """Say what is seen of a timeline at first: as long as some slices take to be done, where most overlaps."""
    slices = workflow.slices
    ended = np.sort(slices.ended[part])
    low, high = float(slices.began[part].min()), float(ended[-1])
    lasts = min(high - low, (high - low) * SEEN / len(part))
    if workflow.done is None:
        # With the end, if that wasn't long after.
        return _with_margin(high - lasts, min(high + lasts, max(high, workflow.ended)))
    begins = np.linspace(low, high - lasts, 201)
    both = overlaps(loading_spans(workflow), computing_spans(workflow))
    shares = np.array([filled(both, np.array([begin, begin + lasts]))[0] for begin in begins])
    # Of places that are about as good, that in the middle.
    good = np.flatnonzero(shares >= 0.9 * shares.max())
    begin = begins[good[len(good) // 2]]
    return _with_margin(float(begin), float(begin) + lasts)


def _with_margin(low: float, high: float) -> list[float]:
    margin = 0.01 * (high - low)
    return [_round(low - margin), _round(high + margin)]


# all of the run


def _at_work(workflows: dict[str, WorkflowOnRank]) -> Figure:
    return Figure(
        "Who was at work, over the whole run",
        f"The share of each {BINS}th part of the time in which an actor worked; of the last line, in which loading and"
        " computing went on at once."
        + (" Made from a sample of the slices, scaled up." if next(iter(workflows.values())).is_sampled else ""),
        [Variant(label, *_heat(workflow)) for label, workflow in workflows.items()],
    )


def _edges(workflow: WorkflowOnRank) -> Column:
    return np.linspace(workflow.loop_began, max(workflow.loop_ended, workflow.loop_began + 1e-6), BINS + 1)


def _heat(workflow: WorkflowOnRank) -> tuple[list[Plot], Plot]:
    slices, edges = workflow.slices, _edges(workflow)
    scale = 1 / slices.share
    lines: dict[str, Column] = {GENERATOR: filled((slices.began, slices.made), edges)}
    if not np.isnan(slices.prefetch_began).all():
        work = work_of(workflow)
        threads = next((actor.threads for actor in work.actors if actor.name == PREFETCHER), 1) if work else 1
        ahead = (slices.prefetch_began, slices.prefetch_began + slices.prefetch)
        lines["loading ahead"] = filled(ahead, edges) / threads
    for name, stage in slices.stages.items():
        lines[_plain(name)] = filled((stage.began, stage.ended), edges)
    both = filled(overlaps(loading_spans(workflow), computing_spans(workflow)), edges)
    lines = {name: np.minimum(1.0, scale * line) for name, line in {**lines, _BOTH: both}.items()}
    names = list(lines)[::-1]
    return [
        {
            "type": "heatmap",
            "x": [_round(edge) for edge in edges],
            "y": names,
            "z": [[round(float(each), 3) for each in lines[name]] for name in names],
            "zmin": 0,
            "zmax": 1,
            "colorscale": "@heat",
            "ygap": 3,
            "hovertemplate": "%{y}<br>at work %{z:.0%} of the time at %{x:.4g} s<extra></extra>",
            "colorbar": {"tickformat": ".0%", "thickness": 10, "len": 1, "outlinewidth": 0},
        }
    ], {
        "height": 110 + 30 * len(names),
        "xaxis": {"title": {"text": "seconds from the beginning of the job"}},
        "yaxis": {"type": "category", "fixedrange": True},
    }


def _waiting(workflows: dict[str, WorkflowOnRank]) -> Figure:
    return Figure(
        "Slices waiting, in front of whom",
        "How many slices, on average over a short time, were waiting for an actor, made from the moments of the slices"
        " themselves; dots are what the queues said, every few seconds and at the end. Slices pile up in front of"
        " who limits the run.",
        [Variant(label, *_queues(workflow)) for label, workflow in workflows.items()],
    )


def _queues(workflow: WorkflowOnRank) -> tuple[list[Plot], Plot]:
    slices, edges = workflow.slices, _edges(workflow)
    scale = 1 / slices.share
    middle = [_round(each) for each in (edges[1:] + edges[:-1]) / 2]
    lines = {}
    if not np.isnan(slices.prefetch_began).all():
        lines["for a loader"] = (slices.made, slices.prefetch_began)
    for name, stage in slices.stages.items():
        lines[f"for {name}"] = (stage.began - stage.wait, stage.began)
    lines["in flight, in all"] = (slices.began, slices.ended)
    told = {"for a loader": "generator"}
    for before, name in zip(["prefetch", *slices.stages], slices.stages, strict=False):
        told[f"for {name}"] = before
    data: list[Plot] = []
    for place, (name, spans) in enumerate(lines.items()):
        colour = "@muted" if name.startswith("in flight") else f"@line{place % 6}"
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": _plain(name),
                "legendgroup": name,
                "x": middle,
                "y": [round(float(each), 3) for each in scale * filled(spans, edges)],
                "line": {
                    "color": colour,
                    "width": 1.6,
                    "shape": "hvh",
                    "dash": "dot" if colour == "@muted" else "solid",
                },
                "hovertemplate": "%{y:.2g} slices<extra>" + _in_template(name) + "</extra>",
            }
        )
        dots = [queue for queue in workflow.queues if queue.stats.queue == told.get(name)]
        if dots:
            data.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": _plain(name),
                    "legendgroup": name,
                    "showlegend": False,
                    "x": [_round(queue.moment) for queue in dots],
                    "y": [queue.stats.occupancy for queue in dots],
                    "marker": {"color": colour, "size": 6},
                    "hovertemplate": "%{y} in the queue<extra>" + _in_template(name) + "</extra>",
                }
            )
    return data, {
        "height": 320,
        "xaxis": {"title": {"text": "seconds from the beginning of the job"}},
        "yaxis": {"title": {"text": "slices"}, "rangemode": "tozero"},
        "hovermode": "x unified",
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }


def _durations(workflows: dict[str, WorkflowOnRank]) -> Figure:
    return Figure(
        "What a slice takes",
        "Boxes hold half of the slices, whiskers nine tenths, the line is the median and the dot the longest; times"
        " below a microsecond are drawn as one. All slices that are told are counted.",
        [Variant(label, *_boxes(workflow)) for label, workflow in workflows.items()],
    )


def _boxes(workflow: WorkflowOnRank) -> tuple[list[Plot], Plot]:
    slices = workflow.slices
    kinds: dict[str, dict[str, Column]] = {"make": {GENERATOR: slices.generator}, "wait": {}, "ahead": {}, "load": {}}
    kinds |= {"run": {}, "write": {}}
    for name, stage in slices.stages.items():
        kinds["wait"][name], kinds["load"][name], kinds["run"][name] = stage.wait, stage.load, stage.run
        kinds["write"][name] = stage.write
        if stage.prefetch.any():
            kinds["ahead"][name] = stage.prefetch
    data: list[Plot] = []
    for kind, columns in kinds.items():
        words, colour = {**_KINDS, "wait": ("waiting", "@muted")}[kind]
        known = {name: each for name, column in columns.items() if len(each := column[~np.isnan(column)])}
        if not known:
            continue
        cuts = np.array(
            [np.maximum(1e-6, np.quantile(each, [0.05, 0.25, 0.5, 0.75, 0.95, 1.0])) for each in known.values()]
        )
        low, first, median, third, high, longest = ([_round(each) for each in cut] for cut in cuts.T)
        data.append(
            {
                "type": "box",
                "name": words,
                "x": list(map(_plain, known)),
                "lowerfence": low,
                "q1": first,
                "median": median,
                "q3": third,
                "upperfence": high,
                "y": [[each] for each in longest],
                "boxpoints": "all",
                "pointpos": 0,
                "jitter": 0,
                "offsetgroup": kind,
                "marker": {"color": colour, "size": 4},
                "line": {"color": colour, "width": 1.4},
            }
        )
    return data, {
        "height": 380,
        "boxmode": "group",
        "boxgap": 0.25,
        "boxgroupgap": 0.2,
        "yaxis": {"type": "log", "tickvals": list(_TICKS), "ticktext": list(_TICKS.values())},
        "xaxis": _NAMES | {"categoryarray": [GENERATOR, *map(_plain, slices.stages)]},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }


# ranks


def _ranks(run: Run, workflows: Sequence[WorkflowOnRank]) -> Figure:
    found = {run.rank_of(each): work for each in workflows if (work := work_of(each)) is not None}
    kinds: dict[str, list[float]] = {name: [] for name in (*_KINDS, "ranks", "held")}
    for work in found.values():
        spent = dict.fromkeys(kinds, 0.0)
        for actor in work.actors:
            totals = actor.totals
            spent["make" if actor.name == GENERATOR else "run"] += totals.run_s
            spent["ahead" if actor.name == PREFETCHER else "load"] += totals.load_s
            spent["write"] += actor.write
            spent["ranks"] += actor.ranks_wait
        for kind, seconds in spent.items():
            kinds[kind].append(seconds)
    words = {**_KINDS, "ranks": ("waiting for other ranks", "@muted")}
    names = [f"rank {rank}" for rank in found]
    data: list[Plot] = [
        {
            "type": "bar",
            "orientation": "h",
            "name": words[kind][0],
            "y": names,
            "x": [_round(each) for each in kinds[kind]],
            "marker": {"color": words[kind][1]},
            "hovertemplate": "%{x:.4g} s " + words[kind][0] + "<extra>%{y}</extra>",
        }
        for kind in words
        if any(kinds[kind])
    ]
    data.append(
        {
            "type": "scatter",
            "mode": "markers",
            "name": "the loop, from begin to end",
            "y": names,
            "x": [_round(work.elapsed) for work in found.values()],
            "marker": {"symbol": "line-ns-open", "size": 16, "color": "@ink", "line": {"width": 2}},
            "hovertemplate": "%{x:.4g} s<extra>loop of %{y}</extra>",
        }
    )
    layout: Plot = {
        "barmode": "stack",
        "bargap": 0.3,
        "height": min(1200, 140 + 26 * len(names)),
        "xaxis": {"title": {"text": "seconds of all actors together"}},
        "yaxis": {"categoryorder": "array", "categoryarray": names[::-1], "fixedrange": True},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return Figure(
        "Ranks side by side",
        "What the actors of each rank have spent, added up. The mark is how long the loop took: work that reaches"
        " beyond it overlapped.",
        [Variant("all", data, layout)],
    )


def _round(moment: float) -> float:
    return round(float(moment), 6)


def _plain(text: str) -> str:
    """Return a text in which plotly finds no tags."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _in_template(text: str) -> str:
    """Return a text in which it finds no variables either."""
    return _plain(text).replace("%{", "% {")
