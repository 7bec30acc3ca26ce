"""What limited a run, in words: judged from what was done, without files and pictures.

An actor that is at work nearly all of the time limits a pipeline: all others wait for it. Where no actor is, something
keeps slices from overlapping: the mode, a warning, the order in which components must go, other ranks, or the start.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence

import msgspec

from h5flow.report import advice
from h5flow.report.run import GENERATOR, PREFETCHER, Run, WorkflowOnRank
from h5flow.report.wording import capital, lasting, listed, named, percent, times
from h5flow.report.work import ActorWork, LoopWork, work_of
from h5flow.telemetry.events import RunStopped

#: Who is at work for this share of the time limits a run, and who is for that one comes nearest to it.
LIMITS, NEARLY = 0.7, 0.5
#: Waiting that takes this share of the time is worth a word.
WORTH_A_WORD = 0.15
#: A rank that works so many times as long as others is slow.
SLOW = 1.2
#: Less than this is no overlap, but what clocks do.
OVERLAP = 1.05

#: From this share of the time on a processor may be what threads wait for.
BUSY_CORE = 0.8

#: What overlaps less than this goes in turn.
IN_TURN = 1.1

#: Slices that cost less travel in batches (seconds), and so many run one at a time at first; see `runtime`.
CHEAP, WARM_UP = 1e-3, 3


class Limit(msgspec.Struct, frozen=True):
    """What limited a loop."""

    #: `stage`, `generator`, `loading`, `writing`: an actor was at work most of the time, doing that.
    #: `rank`, `ranks`: one rank was slow, or all waited for each other. `order`: components had to wait for others to
    #: go first. `sequential`, `serialized`, `in turn`: slices went one after the other, by the mode, since something
    #: made them, or since that was as quick. `start`: what is before and after the loop. `nobody`: none of these.
    kind: str
    actor: str | None = None
    rank: int | None = None
    #: Of the time of the loop, of a `start` of the time of the workflow.
    share: float = 0.0


class LoopVerdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of a workflow of the job."""

    workflow: str
    limit: Limit
    slices: int
    rows: int
    #: Of the loop; with several ranks that of the slowest.
    elapsed_s: float
    #: L and C of all ranks, see `LoopWork`.
    loading_s: float
    computing_s: float
    #: (L + C) / elapsed, and how much of the loading went on while something was computed, on average of all ranks.
    overlap: float | None
    hidden: float | None
    #: The first one says what limited it.
    sentences: tuple[str, ...]
    advice: tuple[str, ...]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of a run."""

    run_id: str
    #: `done`, `failed`, `stopped`, `incomplete`.
    status: str
    #: How it ended.
    outcome: str
    #: Of each workflow of the job, in order.
    loops: tuple[LoopVerdict, ...]
    #: What the logs don't say.
    notices: tuple[str, ...]


def judged(run: Run) -> Verdict:
    """Judge a run: say what is to be said of it."""
    return Verdict(
        run_id=run.run_id,
        status=run.status,
        outcome=_outcome(run),
        loops=tuple(_Loop(run, each).verdict() for each in run.workflows),
        notices=tuple(run.notices),
    )


def _outcome(run: Run) -> str:
    elapsed = lasting(max(rank.elapsed for rank in run.ranks.values()))
    if run.status == "failed":
        (number, failure), *others = run.failures.items()
        where = f" on rank {number}" if run.size > 1 else ""
        more = f" (and on {len(others)} more)" if others else ""
        return f"Failed{where} after {elapsed}{more}: {failure.error}"
    if run.status == "stopped":
        stop = next(rank.end for rank in run.ranks.values() if isinstance(rank.end, RunStopped))
        at_once = " at once" if stop.at_once else ""
        return f"Stopped by {stop.signal}{at_once} {stop.progress}".rstrip() + "."
    if run.status == "incomplete":
        silent = [str(rank.rank) for rank in run.ranks.values() if rank.end is None]
        s = "s" if len(silent) > 1 else ""
        who = "The run has" if len(silent) == run.size else f"Rank{s} {listed(silent[:8])} ha{'ve' if s else 's'}"
        return f"{who} no end: it is at work, or was killed. It was last heard of after {elapsed}."
    counts = [slices_and_rows(each) for each in run.workflows]
    slices, rows = sum(slices for slices, _ in counts), sum(rows for _, rows in counts)
    ranks = f" on {run.size} ranks" if run.size > 1 else ""
    return f"Done in {elapsed}: {slices:,} slices, {rows:,} rows{ranks}."


def slices_and_rows(workflows: Sequence[WorkflowOnRank]) -> tuple[int, int]:
    """Count the slices and rows of a workflow on all ranks that tell of it."""
    slices = rows = 0
    for each in workflows:
        if each.done is not None:
            slices, rows = slices + each.done.slices, rows + each.done.rows
        elif len(each.slices):
            slices += round(len(each.slices) / each.slices.share)
            rows += round(float(each.slices.rows.sum()) / each.slices.share)
    return slices, rows


class _Loop:
    """Judges a workflow, as all ranks tell it."""

    def __init__(self, run: Run, workflows: Sequence[WorkflowOnRank]) -> None:
        self._run = run
        self._workflows = workflows
        found = [(run.rank_of(each), each, work_of(each)) for each in workflows]
        self._ranks = [(rank, each, work) for rank, each, work in found if work is not None]
        self._advice: list[str] = []
        self._slices, self._rows = slices_and_rows(workflows)

    def verdict(self) -> LoopVerdict:
        """Judge the loop: say what is to be said of it."""
        works = [work for _, _, work in self._ranks]
        elapsed = sum(work.elapsed for work in works)
        loading, computing = sum(work.loading for work in works), sum(work.computing for work in works)
        known = [(work.hidden, work.loading) for work in works if work.hidden is not None]
        weight = sum(seconds for _, seconds in known)
        overlap = (loading + computing) / elapsed if elapsed > 0 else None
        hidden = sum(share * seconds for share, seconds in known) / weight if weight > 0 else None
        limit, sentences = self._limit()
        if overlap is not None:
            sentences += self._overlap(overlap, hidden, loading, computing)
        sentences += self._beside(limit)
        return LoopVerdict(
            workflow=self._workflows[0].name,
            limit=limit,
            slices=self._slices,
            rows=self._rows,
            elapsed_s=max((work.elapsed for work in works), default=0.0),
            loading_s=loading,
            computing_s=computing,
            overlap=overlap,
            hidden=hidden,
            sentences=tuple(sentences),
            advice=tuple(dict.fromkeys(self._advice)),
        )

    # what limited it

    def _limit(self) -> tuple[Limit, list[str]]:
        if not self._ranks:
            return Limit("nobody"), [self._without_measures()]
        if found := self._start() or self._ranks_wait():
            return found
        rank, workflow, work = max(self._ranks, key=lambda each: each[2].busiest.busy)
        busiest = work.busiest
        held = max(work.actors, key=lambda actor: actor.totals.held_s)
        if held.totals.held_s >= WORTH_A_WORD * work.elapsed and busiest.busy < LIMITS:
            return self._order(rank, held)
        if workflow.mode == "sequential":
            return self._sequential(rank, work)
        if workflow.serialized:
            return self._serialized(rank, workflow, work)
        few = max(actor.totals.slices for actor in work.actors) <= 2 * WARM_UP
        if few and work.overlap is not None and work.overlap >= NEARLY:
            return self._in_turn(rank, work, few=True)
        if busiest.busy >= LIMITS:
            return self._actor(rank, work)
        if work.overlap is not None and NEARLY <= work.overlap <= IN_TURN:
            return self._in_turn(rank, work, few=False)
        return self._nobody(rank, work)

    def _without_measures(self) -> str:
        if self._slices:
            return f"{self._slices:,} slices were done, of which nothing was measured."
        return "There were no slices." if self._run.status == "done" else "No slice was done."

    def _start(self) -> tuple[Limit, list[str]] | None:
        """Say whether what is before and after the loop took most of the time, with advice; `None` if it didn't."""
        rank, workflow, work = max(self._ranks, key=lambda each: each[1].ended - each[1].began)
        whole = workflow.ended - workflow.began
        before, after = workflow.loop_began - workflow.began, workflow.ended - workflow.loop_ended
        share = (before + after) / whole if whole > 0 else 0.0
        if share < NEARLY or workflow.done is None:
            return None
        calls = [(each.seconds, f"init of {each.component}") for each in workflow.inits]
        calls += [(each.seconds, f"finish of {each.component}") for each in workflow.finishes]
        seconds, longest = max(calls, default=(0.0, ""))
        most = ""
        if seconds >= WORTH_A_WORD * whole:
            most = f", {lasting(seconds)} of it in the {longest}"
            self._advise(advice.quicker_call(longest))
        self._advise(advice.LONGER_RUN)
        when = "before the first slice" if before >= after else "after the last slice"
        busiest = work.busiest
        return Limit("start", None, self._shown(rank), share), [
            f"Start and end limited this run: {percent(share)} of its {lasting(whole)} passed outside of the loop,"
            f" {lasting(max(before, after))} {when}{most}.",
            f"Within the loop {named(busiest.name)} was at work longest, {percent(busiest.busy)} of the time.",
        ]

    def _ranks_wait(self) -> tuple[Limit, list[str]] | None:
        """Say whether ranks have waited for one of them, or for each other, with advice; `None` if they haven't."""
        if len(self._ranks) < 2:
            return None
        waits = {rank: work.ranks_wait / work.elapsed for rank, _, work in self._ranks}
        slow, actor, factor, seconds = self._slowest()
        others = statistics.median(share for rank, share in waits.items() if rank != slow)
        if others >= WORTH_A_WORD and factor >= SLOW and waits[slow] < others:
            rows = {rank: float(each.slices.rows.sum()) for rank, each, _ in self._ranks}
            usual = statistics.median(count for rank, count in rows.items() if rank != slow)
            if usual and rows[slow] > SLOW * usual:
                self._advise(advice.fewer_rows(slow, rows[slow], usual))
            else:
                self._advise(advice.look_at_rank(slow, self._run.ranks[slow].host))
            self._advise(advice.FEWER_COLLECTIVE_CALLS)
            return Limit("rank", actor, slow, others), [
                f"Rank {slow} limited this run: {named(actor)} was at work there {times(factor)} as long as on other"
                f" ranks ({lasting(seconds)}), and they waited {percent(others)} of the time."
            ]
        typical = statistics.median(waits.values())
        if typical < 2 * WORTH_A_WORD:
            return None
        self._advise(advice.FEWER_COLLECTIVE_CALLS, advice.LARGER_SLICES)
        if any(each.opened is not None and each.opened.storage == "single-writer" for _, each, _ in self._ranks):
            self._advise(advice.PARALLEL_STORAGE)
        return Limit("ranks", None, None, typical), [
            f"Waiting for other ranks limited this run: they waited {percent(typical)} of the time, and not all for the"
            " same one."
        ]

    def _slowest(self) -> tuple[int, str, float, float]:
        """Find the rank where an actor worked much longer than elsewhere, the actor, how many times, and how long."""
        found = []
        for name in dict.fromkeys(actor.name for _, _, work in self._ranks for actor in work.actors):
            worked = {
                rank: actor.worked for rank, _, work in self._ranks for actor in work.actors if actor.name == name
            }
            slow = max(worked, key=lambda rank: worked[rank])
            usual = statistics.median([each for rank, each in worked.items() if rank != slow] or [worked[slow]])
            found.append((worked[slow] - usual, slow, name, worked[slow] / max(usual, 1e-9), worked[slow]))
        _, slow, name, factor, seconds = max(found)
        return slow, name, factor, seconds

    def _order(self, rank: int, held: ActorWork) -> tuple[Limit, list[str]]:
        share = min(1.0, held.totals.held_s / held.elapsed)
        self._advise(advice.own_datasets(held.name))
        return Limit("order", held.name, self._shown(rank), share), [
            f"Order limited this run: {named(held.name)} waited {percent(share)} of the time until others had done"
            " their part of earlier slices."
        ]

    def _sequential(self, rank: int, work: LoopWork) -> tuple[Limit, list[str]]:
        busiest = work.busiest
        parts = {named(actor.name): max(0.0, actor.worked - actor.totals.load_s) for actor in work.actors}
        parts["loading"] = work.loading
        longest = max(parts, key=lambda part: parts[part])
        factor = sum(parts.values()) / max(parts[longest], 1e-12)
        share = percent(parts[longest] / work.elapsed)
        if factor < IN_TURN:
            self._advise(*advice.on(busiest))
            return Limit("sequential", busiest.name, self._shown(rank), busiest.busy), [
                f"{capital(longest)} limited this run: it took {share} of the time. Pipelined mode would win little."
            ]
        self._advise(advice.pipelined(factor), *advice.on(busiest))
        return Limit("sequential", busiest.name, self._shown(rank), busiest.busy), [
            "The mode limited this run: sequential does one thing after the other. Pipelined, it could be up to"
            f" {times(factor)} as fast, and {longest} would limit it, which took {share} of the time."
        ]

    def _serialized(self, rank: int, workflow: WorkflowOnRank, work: LoopWork) -> tuple[Limit, list[str]]:
        busiest = work.busiest
        reason = workflow.serialized[-1]
        self._advise(advice.RANDOM_PER_STAGE if "runtime.random" in reason else advice.TRACEABLE, *advice.on(busiest))
        return Limit("serialized", busiest.name, self._shown(rank), busiest.busy), [
            f"Slices couldn't overlap, which limited this run: {reason.rstrip('.')}.",
            f"The longest part was {named(busiest.name)}, {percent(busiest.busy)} of the time.",
        ]

    def _actor(self, rank: int, work: LoopWork) -> tuple[Limit, list[str]]:
        busiest, part = work.busiest, work.busiest.part
        name = named(busiest.name)
        at_work = f"at work {percent(busiest.busy)} of the time" + (f" on rank {rank}" if self._run.size > 1 else "")
        if busiest.name == PREFETCHER:
            who = f"its {busiest.threads} threads were" if busiest.threads > 1 else "its thread was"
            sentence = f"Loading ahead limited this run: {who} {at_work}, and stages waited for data."
        elif part == "load":
            sentence = (
                f"Loading for {name} limited this run: the stage was {at_work}, mostly loading what it requires, which"
                " couldn't be done ahead."
            )
        elif part == "write":
            sentence = f"Writing in {name} limited this run: it was {at_work}, mostly in writing calls."
        else:
            sentence = f"{capital(name)} limited this run: it was {at_work}, and the others waited for it."
        kind = {"load": "loading", "write": "writing"}.get(part, GENERATOR if busiest.name == GENERATOR else "stage")
        self._advise(*advice.on(busiest))
        return Limit(kind, busiest.name, self._shown(rank), busiest.busy), [sentence, *_next(busiest, work)]

    def _in_turn(self, rank: int, work: LoopWork, *, few: bool) -> tuple[Limit, list[str]]:
        busiest = work.busiest
        each = (work.loading + work.computing) / max(1, max(actor.totals.slices for actor in work.actors))
        most = f"{capital(named(busiest.name))} took most of it, {percent(busiest.busy)} of the time."
        if few:
            sentence = (
                f"Slices were too few to overlap: the first {WARM_UP} run one at a time, and there were"
                f" {self._slices:,} in all."
            )
            self._advise(advice.MORE_SLICES)
        elif each < CHEAP:
            sentence = (
                f"Slices were too small to overlap: one takes {lasting(each)}, and those below a millisecond travel in"
                " batches, one batch at a time."
            )
            self._advise(advice.LARGER_SLICES)
        else:
            sentence = (
                "Slices went one after the other, though they may overlap: components that share a core, or Python's"
                " interpreter, are as quick when they take turns."
            )
            self._advise(advice.WHOLE_ARRAYS, advice.MORE_RANKS)
        self._advise(*advice.on(busiest))
        return Limit("in turn", busiest.name, self._shown(rank), busiest.busy), [sentence, most]

    def _nobody(self, rank: int, work: LoopWork) -> tuple[Limit, list[str]]:
        busiest = work.busiest
        share = percent(busiest.busy)
        if busiest.busy >= NEARLY:
            self._advise(*advice.on(busiest))
            sentence = (
                f"No actor alone limited this run; {named(busiest.name)} came nearest, at work {share} of the time."
            )
        else:
            self._advise(advice.LOOK)
            sentence = (
                f"Nobody was at work for long: {named(busiest.name)} most, {share} of the time. The rest is waiting:"
                " for a core that others use, for a disk, or for slices to be handed on."
            )
        return Limit("nobody", busiest.name, self._shown(rank), busiest.busy), [sentence]

    # what else is to be said

    def _overlap(self, overlap: float, hidden: float | None, loading: float, computing: float) -> Iterator[str]:
        count = len(self._ranks)
        elapsed = max(work.elapsed for _, _, work in self._ranks)
        each = f" on each of {count} ranks" if count > 1 else ""
        amount = (
            f"{lasting(loading / count)} of loading and {lasting(computing / count)} of other work{each} in"
            f" {lasting(elapsed)}"
        )
        if overlap < OVERLAP:
            yield f"Overlap won nothing: {amount}."
            return
        yield f"Overlap won: up to {times(overlap)} as fast as one thing after the other ({amount})."
        processor = sum(each.done.processor_s or 0.0 for _, each, _ in self._ranks if each.done is not None)
        if processor >= BUSY_CORE * sum(work.elapsed for _, _, work in self._ranks):
            yield (
                f"It is less where threads share a core or the interpreter, and wait for it within these times:"
                f" processors worked for {lasting(processor / count)}."
            )
        if hidden is not None and loading >= 0.01 * elapsed * count:
            yield f"{percent(hidden)} of the loading went on while something was computed."

    def _beside(self, limit: Limit) -> Iterator[str]:
        """Yield what hasn't limited the run, and is worth a word."""
        reloads = sum(each.done.reloads for each in self._workflows if each.done is not None)
        if self._slices and reloads >= WORTH_A_WORD * self._slices:
            self._advise(advice.UNCHANGED_ROWS)
            yield f"{reloads:,} values had changed after they were loaded ahead, and were loaded again."
        late = sorted({name for each in self._workflows for name in each.left_late})
        if late:
            yield f"{listed([repr(name) for name in late])} changed each time after loading ahead, and was left late."
        if self._run.stalls and limit.kind != "rank":
            longest = max(self._run.stalls, key=lambda stall: stall.seconds)
            yield f"Ranks waited {lasting(longest.seconds)} for {'; '.join(longest.waiting_for[:3])}."

    def _advise(self, *advice: str) -> None:
        self._advice += advice

    def _shown(self, rank: int) -> int | None:
        return rank if self._run.size > 1 else None


def _next(first: ActorWork, work: LoopWork) -> Iterator[str]:
    """Say who would limit the run if its first limit were gone."""
    other = max((actor for actor in work.actors if actor is not first), key=lambda actor: actor.busy, default=first)
    if other is not first and other.busy >= 0.05:
        yield (
            f"Next is {named(other.name)} with {percent(other.busy)}: however quick {named(first.name)} were, the run"
            f" would be at most {times(first.busy / other.busy)} as fast."
        )
