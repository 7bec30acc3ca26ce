"""The decisions about order, whatever the components do and however they overtake each other.

A file in memory is used as a pipeline would: accesses wait where the hazards say so. In the end the accesses are done
again in the order of their moments, as in sequential mode; each must have seen the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from h5flow.data.resource import Resource
from h5flow.runtime.hazards import HOW_MANY, Claim, Conflict, Hazards, Moment, Prefetched

DATASETS = [Resource("rows", "/raw/data"), Resource("rows", "/hits/data")]
SLICE = 3  # rows

#: What an access may turn out to be; with a star, it is one of the slice's own rows.
CLAIMS = {
    "read": Claim.READS,
    "read*": Claim.READ,
    "count": Claim.READS,
    "append": Claim.APPEND,
    "update": Claim.UPDATES,
    "update*": Claim.UPDATE,
}
#: What happens in detail: drawn all alike, while hypothesis would rather draw what is small and simple.
SEEDS = st.integers(0, 2**64 - 1)
#: Mostly of one dataset, so that components meet.
HABITS = st.sampled_from(DATASETS).flatmap(
    lambda dataset: st.sets(
        st.tuples(st.integers(0, 3), st.sampled_from(list(CLAIMS)), st.sampled_from([dataset, dataset, *DATASETS])),
        min_size=3,
        max_size=9,
    )
)


@dataclass
class Access:
    """What a component has done, and what it has seen."""

    moment: Moment
    do: str
    dataset: Resource
    rows: tuple[int, int] = (0, 0)
    seen: object = None


@dataclass
class File:
    """Rows of datasets, each a word for who has written it."""

    rows: dict[Resource, list[str]] = field(default_factory=lambda: {name: [] for name in DATASETS})

    def apply(self, access: Access, length: int | None = None) -> object:
        """Carry an access out; returns what is seen of the file, which may be shown with a `length` of its own."""
        rows = self.rows[access.dataset]
        start, stop = access.rows
        if access.do == "count":
            return len(rows) if length is None else length
        if access.do == "read":
            return rows[start : min(stop, len(rows) if length is None else length)]
        if access.do == "append":
            before = len(rows)
            rows.extend(f"{access.moment}" for _ in range(stop - start))
            return before
        rows[start:stop] = [f"{access.moment}" for _ in rows[start:stop]]
        return None


class Pipeline(RuleBasedStateMachine):
    """Components that take slices in order, each at its own pace, and a loader that runs ahead of them."""

    @initialize(
        components=st.integers(2, 4),
        there=st.sampled_from([30, 7, 0]),
        habits=st.none() | HABITS,
        announced=st.booleans(),
    )
    def start(self, components, there, habits, announced):
        """Components do anything, or nothing but their `habits`, which they may have announced."""
        self.hazards = Hazards([f"component {number}" for number in range(components)], DATASETS[0])
        self.file, self.sequential = File(), File()
        for file in (self.file, self.sequential):
            for name in DATASETS:
                file.rows[name] = ["before"] * there
        #: The slice that each component works on, and the rows of those that have begun.
        self.at = [0] * components
        self.slices: list[tuple[int, int]] = []
        self.accesses: list[Access] = []
        self.ahead: dict[Moment, tuple[Access, Prefetched]] = {}
        self.conflict: Conflict | None = None
        everything = {(do, dataset) for do in CLAIMS for dataset in DATASETS}
        self.habits = [
            sorted(everything if habits is None else {habit[1:] for habit in habits if habit[0] == position})
            for position in range(components)
        ]
        self.announced = announced
        for position, does in enumerate(self.habits if announced else ()):
            for do, dataset in does:
                self.hazards.claim(position, dataset, CLAIMS[do])

    def at_work(self) -> list[int]:
        """The components that have a slice: those before them are done with it, and the generator isn't far ahead."""
        behind = [position for position in range(1, len(self.at)) if self.at[position] < self.at[position - 1]]
        return [0, *behind] if self.at[0] < self.at[-1] + 5 else behind

    def go_on(self) -> bool:
        return self.conflict is None

    @precondition(go_on)
    @rule(seed=SEEDS)
    def work(self, seed):
        """Components use the file, load ahead, and are done with slices, a few times."""
        random = Random(seed)
        for _ in range(10):
            position = random.choice(self.at_work())
            what = random.random()
            if what < 0.6 and self.habits[position]:
                self.access(random, position)
            elif what < 0.7:
                self.load(random)
            elif what < 0.75:
                self.take(random)
            else:
                self.finish(position, again=position == 0 and not self.announced and random.random() < 0.1)
            if not self.go_on():
                return

    def access(self, random: Random, position: int) -> None:
        """Use rows, of the slice or any others, if it needn't wait."""
        do, dataset = random.choice(self.habits[position])
        moment = (self.at[position], position)
        now = len(self.file.rows[dataset])
        length = self.hazards.length(moment, dataset, now)
        if do in ("append", "count"):
            rows = (0, random.randint(1, 3))
        elif do.endswith("*"):
            rows = self.slices[moment[0]] if position else (0, 0)
            rows = rows if rows[1] <= length else (0, 0)
        else:
            rows = self.rows(random, moment, length)
        do = do.rstrip("*")
        meant = {"count": HOW_MANY, "append": None}.get(do, rows)
        if rows[0] >= rows[1]:
            return
        kind = {"append": Claim.APPEND, "update": Claim.UPDATE}.get(do, Claim.READ)
        awaited = self.hazards.awaited(moment, dataset, kind, meant)
        if awaited is not None:
            assert awaited < moment
            assert awaited[1] > position, "those before are done with this slice"
            assert self.at[awaited[1]] <= awaited[0], "what is awaited is still to come"
            return
        try:
            if do == "append":
                self.hazards.append(moment, dataset, now, rows[1])
            elif do == "update":
                self.hazards.update(moment, dataset, rows)
            else:
                self.hazards.read(moment, dataset, meant)
        except Conflict as conflict:
            self.conflict = conflict
            later = [access for access in self.accesses if access.moment > moment and access.dataset == dataset]
            assert later, "what comes in order is no conflict"
            assert not self.announced, "what is announced is kept in order"
            return
        access = Access(moment, do, dataset, rows)
        access.seen = self.file.apply(access, length)
        self.accesses.append(access)

    def rows(self, random: Random, moment: Moment, length: int) -> tuple[int, int]:
        """Rows of the slice, the last ones, or any."""
        start = random.randint(0, length)
        ways = [(start, start + random.randint(1, 4)), (length - 2, length)]
        if moment[0] < len(self.slices):
            ways += [self.slices[moment[0]]] * 2
        rows = random.choice(ways)
        return (max(0, rows[0]), min(rows[1], length))

    def finish(self, position: int, again: bool = False) -> None:
        number = self.at[position]
        if position == 0:
            first = 0 if again or not self.slices else self.slices[-1][1]
            self.slices.append((first, first + SLICE))
            self.hazards.begin(number, *self.slices[-1])
        self.hazards.finish((number, position))
        self.at[position] += 1

    def load(self, random: Random) -> None:
        """Read ahead, for a stage that hasn't come to the slice, what no stage before it writes."""
        if self.at[-1] + 1 >= self.at[0]:
            return
        number = random.randint(self.at[-1] + 1, self.at[0] - 1)
        position = random.choice([p for p in range(1, len(self.at)) if self.at[p] < number])
        dataset = random.choice(DATASETS)
        moment, value = (number, position), Prefetched()
        if any(1 <= writer < position for writer in self.hazards.claimed(dataset, Claim.WRITES)):
            return
        length = self.hazards.length(moment, dataset, len(self.file.rows[dataset]))
        rows = self.rows(random, moment, length)
        if rows[0] < rows[1] and moment not in self.ahead:
            self.hazards.read(moment, dataset, rows, value)
            access = Access(moment, "read", dataset, rows)
            access.seen = self.file.apply(access, length)
            self.ahead[moment] = (access, value)

    def take(self, random: Random) -> None:
        """A stage begins with what was loaded for it, unless that is stale or has to wait."""
        if not self.loaded():
            return
        moment = random.choice(self.loaded())
        access, value = self.ahead[moment]
        if any(self.hazards.awaited(moment, name, Claim.READ, rows) for name, rows in value.reads):
            return
        del self.ahead[moment]
        value.accepted = not value.stale
        if value.accepted:
            self.accesses.append(access)

    def loaded(self) -> list[Moment]:
        """Where stages are that have done nothing yet, and something was loaded for them."""
        done = {access.moment for access in self.accesses}
        moments = [(self.at[position], position) for position in self.at_work()]
        return [moment for moment in moments if moment in self.ahead and moment not in done]

    @precondition(lambda self: not self.go_on())
    @rule()
    def end(self):
        """A conflict ends the run."""

    @invariant()
    def what_is_known_does_not_contradict_itself(self):
        if hasattr(self, "hazards"):
            self.hazards.check_invariants()

    def teardown(self):
        if not hasattr(self, "hazards") or self.conflict is not None:
            return
        # At one moment, accesses happen in the order in which they were made.
        for access in sorted(self.accesses, key=lambda access: access.moment):
            expected = self.sequential.apply(access)
            assert access.seen == expected, f"{access} is not what sequential mode shows: {expected}"
        assert self.file.rows == self.sequential.rows


Pipeline.TestCase.settings = settings(max_examples=300, stateful_step_count=20, deadline=None)
TestPipeline = Pipeline.TestCase
