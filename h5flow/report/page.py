"""The page of a report: one file that needs nothing else, neither other files nor a network.

All that comes from logs is escaped, and a content security policy lets the browser run the page's own scripts only.
"""

from __future__ import annotations

import base64
import hashlib
import html
import importlib.util
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import resources

import msgspec

from h5flow.errors import UsageError
from h5flow.report.figures import Figure, figures
from h5flow.report.run import Run, WorkflowOnRank
from h5flow.report.verdict import LoopVerdict, Verdict
from h5flow.report.wording import capital, lasting, percent
from h5flow.report.work import work_of
from h5flow.telemetry.events import ActorTotals

#: Ranks beyond these are left out of tables.
MOST_RANKS = 256


def page(run: Run, verdict: Verdict) -> str:
    """Return the page as HTML. Raises `UsageError` without plotly."""
    script = _plotly()
    drawn: list[Figure] = []
    body = "\n".join(_body(run, verdict, drawn))
    own = _part("page.js")
    # `<` could end the element; in JSON it needn't be there.
    data = msgspec.json.encode(drawn).decode().replace("<", "\\u003c")
    policy = (
        "default-src 'none'; style-src 'unsafe-inline'; img-src data: blob:;"
        f" script-src {_hash(script)} {_hash(own)}; base-uri 'none'; form-action 'none'"
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{_text(run.run_id)}: {_text(verdict.status)}</title>
<style>{_part("page.css")}</style>
</head>
<body>
<main>
{body}
</main>
<script type="application/json" id="figures">{data}</script>
<script>{script}</script>
<script>{own}</script>
</body>
</html>
"""


def _plotly() -> str:
    if importlib.util.find_spec("plotly") is None:
        raise UsageError("the page of a report needs plotly: pip install 'h5flow-async[report]'")
    from plotly.offline import get_plotlyjs

    # Browsers read line ends this way before they look at the hash.
    return str(get_plotlyjs()).replace("\r\n", "\n")


def _part(name: str) -> str:
    return resources.files("h5flow.report").joinpath(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _text(value: object) -> str:
    return html.escape(str(value))


def _body(run: Run, verdict: Verdict, drawn: list[Figure]) -> Iterator[str]:
    first = run.first
    workflows = first.start.workflows if first.start is not None else [each[0].name for each in run.workflows]
    yield f'<header><div class="head"><h1>{_text(", ".join(workflows) or "a run")}</h1>'
    yield f'<span class="chip {verdict.status}">{verdict.status}</span></div>'
    yield f'<p class="facts">{_facts(run)}</p></header>'
    kind = "failure" if verdict.status == "failed" else "notice" if verdict.status != "done" else ""
    if verdict.status != "done":
        yield f'<section class="card {kind}"><p>{_text(verdict.outcome)}</p>{"".join(_failures(run))}</section>'
    for loop, ranks in zip(verdict.loops, run.workflows, strict=True):
        if len(verdict.loops) > 1:
            yield f"<h2>{_text(loop.workflow)}</h2>"
        yield from _verdict(loop)
        for figure in figures(run, ranks, next(iter(run.failures), loop.limit.rank)):
            yield _figure(figure, len(drawn))
            drawn.append(figure)
        yield from _actors(run, ranks)
        yield from _components(ranks)
    yield from _ranks(run)
    yield from _troubles(run)
    if verdict.notices:
        yield '<section class="card notice"><h3>What the logs don\'t say</h3><ul>'
        yield "".join(f"<li>{_text(notice)}</li>" for notice in verdict.notices)
        yield "</ul></section>"
    yield f"<footer>{_versions(run)}</footer>"


def _facts(run: Run) -> str:
    first = run.first
    began = datetime.fromtimestamp(first.began_at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    hosts = sorted({rank.host for rank in run.ranks.values() if rank.host})
    facts = [
        f"run <code>{_text(run.run_id)}</code>",
        began,
        _text(", ".join(hosts[:4])) + (" …" if len(hosts) > 4 else ""),
    ]
    facts.append(f"{run.size} rank{'s' if run.size > 1 else ''}")
    if first.start is not None:
        given = f"{_text(first.start.input)} → " if first.start.input else ""
        size = f" ({run.bytes / 1e6:,.1f} MB)" if run.bytes is not None else ""
        facts.append(f"{given}<code>{_text(first.start.output)}</code>{size}")
    return " · ".join(fact for fact in facts if fact)


def _versions(run: Run) -> str:
    start = run.first.start
    if start is None:
        return ""
    versions = ", ".join(f"{name} {version}" for name, version in start.versions.items())
    return f"{_text(versions)}<br><code>{_text(' '.join(start.arguments))}</code>"


def _failures(run: Run) -> Iterator[str]:
    for number, failure in list(run.failures.items())[:8]:
        where = [f"on rank {number}"] if run.size > 1 else []
        if failure.slice_index is not None:
            where.append(f"in slice number {failure.slice_index}")
        if failure.requirement:
            where.append(f"while loading '{failure.requirement}'")
        yield f"<p>{_text(capital(', '.join(where)))}.</p>" if where else ""
        yield f"<details><summary>traceback</summary><pre>{_text(failure.traceback)}</pre></details>"


def _verdict(loop: LoopVerdict) -> Iterator[str]:
    first, *others = loop.sentences
    yield f'<section class="card verdict"><p class="first">{_text(first)}</p>'
    yield from (f"<p>{_text(sentence)}</p>" for sentence in others)
    tiles = [(f"{loop.slices:,}", "slices"), (f"{loop.rows:,}", "rows"), (lasting(loop.elapsed_s), "in the loop")]
    if loop.overlap is not None:
        tiles.append((f"{loop.overlap:.2f}", "(L + C) / elapsed, won at most"))
        tiles.append((lasting(loop.loading_s), "L, loading"))
        tiles.append((lasting(loop.computing_s), "C, all other work"))
    if loop.hidden is not None:
        tiles.append((percent(loop.hidden), "of loading beside computing"))
    yield '<div class="tiles">' + "".join(
        f"<div><b>{_text(big)}</b><span>{_text(small)}</span></div>" for big, small in tiles
    )
    yield "</div>"
    if loop.advice:
        yield '<p class="cure">What would help</p><ul>'
        yield "".join(f"<li>{_text(each)}</li>" for each in loop.advice)
        yield "</ul>"
    yield "</section>"


def _figure(figure: Figure, number: int) -> str:
    choice = ""
    if len(figure.variants) > 1:
        options = "".join(
            f'<option value="{place}">{_text(each.label)}</option>' for place, each in enumerate(figure.variants)
        )
        choice = f'<select data-figure="{number}" aria-label="rank">{options}</select>'
    return (
        f'<section class="card"><figure><div class="top"><h3>{_text(figure.title)}</h3>{choice}</div>'
        f"<figcaption>{_text(figure.caption)}</figcaption>"
        f'<div class="plot" id="figure-{number}"></div></figure></section>'
    )


def _table(
    title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], words: int = 1, note: str = ""
) -> Iterator[str]:
    """Yield a table of escaped cells, of whose columns the first are `words` and the others numbers."""
    rows = list(rows)
    if not rows:
        return

    def cell(tag: str, place: int, content: str) -> str:
        return f'<{tag} class="n">{content}</{tag}>' if place >= words else f"<{tag}>{content}</{tag}>"

    below = f'<p class="facts">{note}</p>' if note else ""
    yield f'<section class="card"><h3>{title}</h3><div class="scroll"><table><thead><tr>'
    yield "".join(cell("th", place, head) for place, head in enumerate(heads)) + "</tr></thead><tbody>"
    for row in rows:
        yield "<tr>" + "".join(cell("td", place, content) for place, content in enumerate(row)) + "</tr>"
    yield f"</tbody></table></div>{below}</section>"


def _actors(run: Run, workflows: Sequence[WorkflowOnRank]) -> Iterator[str]:
    found = [work for each in workflows if (work := work_of(each)) is not None]
    rows = []
    for name in dict.fromkeys(actor.name for work in found for actor in work.actors):
        actors = [actor for work in found for actor in work.actors if actor.name == name]
        totals = [sum(getattr(actor.totals, key) for actor in actors) for key in ActorTotals.__struct_fields__]
        spent = dict(zip(ActorTotals.__struct_fields__, totals, strict=True))
        busy = sum(actor.worked for actor in actors) / max(1e-9, sum(actor.elapsed * actor.threads for actor in actors))
        seconds = [spent[key] for key in ("wait_s", "prefetch_s", "load_s", "run_s", "write_s", "held_s")]
        if run.size > 1:
            seconds.append(sum(actor.ranks_wait for actor in actors))
        rows.append(
            [_text(name), percent(min(1.0, busy)), f"{spent['slices']:,}", *(_seconds(each) for each in seconds)]
        )
    heads = ["actor", "at work", "slices", "waiting", "loading ahead", "loading", "running", "writing", "held up"]
    heads += ["waiting for ranks"] if run.size > 1 else []
    of = f", of all {len(found)} ranks together" if len(found) > 1 else ""
    yield from _table(
        f"Where the time went{of}",
        heads,
        rows,
        note="Waiting is from when the actor before was done with a slice; what is loaded ahead for a stage is the work"
        " of the prefetcher; held up is what a component waited for others to go first, and part of the three before"
        + (", and so is waiting for ranks." if run.size > 1 else "."),
    )


def _components(workflows: Sequence[WorkflowOnRank]) -> Iterator[str]:
    finishes: dict[str, float] = {}
    inits: dict[str, float] = {}
    for each in workflows:
        for init in each.inits:
            inits[init.component] = max(inits.get(init.component, 0.0), init.seconds)
        for finish in each.finishes:
            finishes[finish.component] = max(finishes.get(finish.component, 0.0), finish.seconds)
    rows = [
        [
            _text(init.component),
            f"<code>{_text(init.module)}.{_text(init.classname)}</code>",
            _text(init.version),
            _text(init.place),
            _seconds(inits[init.component]),
            _seconds(finishes[init.component]) if init.component in finishes else "",
        ]
        for init in workflows[0].inits
    ]
    note = "Of several ranks, the longest." if len(workflows) > 1 else ""
    yield from _table("Components", ["component", "class", "version", "place", "init", "finish"], rows, 4, note)


def _ranks(run: Run) -> Iterator[str]:
    if run.size < 2:
        return
    rows = []
    for number, rank in sorted(run.ranks.items())[:MOST_RANKS]:
        works = [work for each in rank.workflows if (work := work_of(each)) is not None]
        done = [
            (each.done.slices, each.done.rows) if each.done else (len(each.slices), int(each.slices.rows.sum()))
            for each in rank.workflows
        ]
        busiest = max((work.busiest for work in works), key=lambda actor: actor.worked, default=None)
        rows.append(
            [
                str(number),
                _text(rank.host),
                _text("no end" if rank.end is None else rank.end.name.removeprefix("run.")),
                _text(busiest.name) if busiest else "",
                f"{sum(slices for slices, _ in done):,}",
                f"{sum(count for _, count in done):,}",
                _seconds(rank.elapsed),
                _seconds(sum(work.loading for work in works)),
                _seconds(sum(work.computing for work in works)),
                _seconds(sum(work.ranks_wait for work in works)),
            ]
        )
    heads = [
        "rank",
        "host",
        "end",
        "busiest",
        "slices",
        "rows",
        "elapsed",
        "loading",
        "other work",
        "waiting for ranks",
    ]
    left = len(run.ranks) - len(rows)
    yield from _table("Ranks", heads, rows, 4, f"{left} more ranks aren't shown." if left else "")


def _troubles(run: Run) -> Iterator[str]:
    rows = []
    began = run.first.began_at
    for trouble in sorted(run.troubles, key=lambda trouble: (trouble.level == "warning", trouble.at)):
        where = [f"stage '{trouble.stage}'"] if trouble.stage else []
        if trouble.start is not None:
            where.append(f"slice {trouble.start}:{trouble.stop}")
        if run.size > 1:
            ranks = sorted(trouble.ranks)
            where.append(f"rank {', '.join(map(str, ranks[:6]))}{' …' if len(ranks) > 6 else ''}")
        more = (
            f"<details><summary>traceback</summary><pre>{_text(trouble.exception)}</pre></details>"
            if trouble.exception
            else ""
        )
        rows.append(
            [
                f'<span class="{_text(trouble.level)}">{_text(trouble.level)}</span>',
                f"{_text(trouble.message)}{more}",
                _text(", ".join(where)),
                _text(trouble.what),
                f"{trouble.count:,}",
                f"{trouble.at - began:.2f} s",
            ]
        )
    note = "Messages that differ only in numbers are one; the first is shown."
    if run.more_troubles:
        note += f" {run.more_troubles:,} more kinds aren't shown."
    yield from _table("Warnings and errors", ["level", "message", "where", "from", "times", "first at"], rows, 4, note)


def _seconds(seconds: float) -> str:
    return "0" if seconds == 0 else lasting(seconds)
