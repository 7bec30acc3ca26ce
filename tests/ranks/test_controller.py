"""What rank 0 decides, with messages that come in every order that MPI allows, and without MPI."""

from __future__ import annotations

import collections
import os
import pickle
import re

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from h5flow.ranks.controller import LOOK_FOR_STALLS, Controller
from h5flow.ranks.messages import (
    Closed,
    Collect,
    Collected,
    Deliver,
    Delivered,
    Failed,
    ForController,
    Join,
    Proceed,
    ProgressWanted,
    RankFailed,
    Refused,
    Report,
    Reported,
    Wait,
    decoded,
    encoded,
    pickled,
    pickled_resource,
    resource_of,
    unpickled,
)
from h5flow.ranks.moments import AFTER, BEFORE, LOOP
from h5flow.ranks.own_progress import OwnProgress
from h5flow.ranks.rounds import Progress
from support.collective_calls import COMPONENTS, actions, expected, workloads

NAMES = [f"component {position}" for position in range(COMPONENTS)]


class Rank:
    """A rank that makes its calls in the order of sequential mode, each when what it waits for has come."""

    def __init__(self, number, slices, send):
        self.number, self._send = number, send
        self.progress = OwnProgress()
        self.progress.enter(LOOP)
        self._steps = self._stepping(slices)
        #: Calls without an outcome, and what it waits for: one of them, or the number of a collection.
        self._open, self._awaited = set(), None
        self.done = False
        self.applied = []
        self.collections = {}
        #: The calls that it has made, and those that it had made when it was asked to report for a collection.
        self._made, self.reports = set(), {}
        self.told = []

    @property
    def able(self):
        return self._awaited is None and not self.done

    def _stepping(self, slices):
        for number, components in enumerate(slices):
            for position, calls in enumerate(components):
                places = {}
                for what, resource, count, *more in actions(calls):
                    if what == "join":
                        place = self.progress.place(resource, (number, position))
                        assert place == ((LOOP, number, position), count)
                        places[resource, count] = place
                        self._join(resource, place, *more)
                    else:
                        self._wait(resource, places[resource, count])
                    yield
                self.progress.passed(number, position)
                yield

    def step(self):
        if next(self._steps, "end") == "end":
            self.progress.enter(AFTER)
            self.done = True

    def _join(self, resource, place, rows, waits):
        self._open.add((resource, place))
        self._made.add((resource, place))
        self._awaited = (resource, place) if waits else None
        self._send(Join(pickled_resource(resource), place, pickled(rows), waits, self.progress.told()))

    def _wait(self, resource, place):
        if (resource, place) in self._open:
            self._awaited = (resource, place)
            self._send(Wait(pickled_resource(resource), place))

    def collect(self):
        number = len(self.collections)
        self.collections[number], self._awaited = None, number
        self._send(Collect(number, pickled_resource("rows"), pickled(("what", self.number, number))))

    def tell_progress(self):
        progress = self.progress.told_if_wanted()
        if progress is not None:
            self._send(Proceed(progress))

    def fail(self):
        self.done, self._awaited = True, None
        self._send(Failed(f"rank {self.number} has failed"))

    def receive(self, message):
        match message:
            case Closed(resource, place, calls):
                made = tuple(None if call is None else unpickled(call) for call in calls)
                self.applied.append((resource_of(resource), place, made))
                if made[self.number] is not None:
                    self._open.remove(self.applied[-1][:2])
                    self._awaited = None if self._awaited == self.applied[-1][:2] else self._awaited
            case ProgressWanted():
                self.progress.want()
            case Report(token):
                self.reports[token] = set(self._made)
                self._send(Reported(token))
            case Deliver(token, resource, request):
                assert resource_of(resource) == "rows"
                assert unpickled(request) == ("what", *token)
                self._send(Delivered(token, pickled((self.number, len(self.applied)))))
            case Collected(number, answers):
                assert self.collections[number] is None, "answered twice"
                assert self._awaited == number
                self.collections[number], self._awaited = [unpickled(answer) for answer in answers], None
            case RankFailed(why):
                self.told.append(why)
                self.done, self._awaited = True, None
            case _:
                raise AssertionError(message)


class Ranks(RuleBasedStateMachine):
    """Ranks and the controller; messages of one to another arrive in order, others in any."""

    @initialize(workload=workloads(2, 4), fails=st.booleans())
    def start(self, workload, fails):
        self.workload, self.may_fail, self.failures = workload, fails, []
        self.controller = Controller(len(workload))
        #: By who sends and who gets them: messages under way. The controller gets its own from -1.
        self.under_way = collections.defaultdict(collections.deque)
        self.ranks = [
            Rank(number, slices, lambda message, number=number: self._send(number, "controller", message))
            for number, slices in enumerate(workload)
        ]
        self.delivered = collections.Counter()
        self.now = 1000.0

    def _send(self, sender, receiver, message):
        sent = decoded(pickle.loads(pickle.dumps(encoded(message))))
        assert sent == message
        self.under_way[sender, receiver].append(sent)

    def _deliver(self, sender, receiver):
        message = self.under_way[sender, receiver].popleft()
        if not self.under_way[sender, receiver]:
            del self.under_way[sender, receiver]
        if receiver != "controller":
            self.ranks[receiver].receive(message)
            return
        assert isinstance(message, ForController)
        if isinstance(message, Delivered):
            self.delivered[sender, message.token] += 1
        for rank, reply in self.controller.receive(sender, message):
            assert not isinstance(reply, Refused)
            self._send("controller", rank, reply)

    # what may happen

    @precondition(lambda self: any(rank.able for rank in self.ranks))
    @rule(pick=st.integers(0, 11), steps=st.integers(1, 3))
    def go_on(self, pick, steps):
        able = [rank for rank in self.ranks if rank.able]
        rank = able[pick % len(able)]
        for _ in range(steps):
            if rank.able:
                rank.step()

    @precondition(lambda self: self.under_way)
    @rule(pick=st.integers(0, 59), count=st.integers(1, 4))
    def deliver(self, pick, count):
        for _ in range(min(count, len(self.under_way))):
            self._deliver(*sorted(self.under_way, key=str)[pick % len(self.under_way)])

    @rule(pick=st.integers(0, 11))
    def tell_progress(self, pick):
        self.ranks[pick % len(self.ranks)].tell_progress()

    @precondition(lambda self: any(rank.able for rank in self.ranks))
    @rule(pick=st.integers(0, 11))
    def collect(self, pick):
        able = [rank for rank in self.ranks if rank.able]
        able[pick % len(able)].collect()

    @precondition(lambda self: self.may_fail and any(not rank.done for rank in self.ranks))
    @rule(pick=st.integers(0, 11))
    def fail(self, pick):
        working = [rank for rank in self.ranks if not rank.done]
        rank = working[pick % len(working)]
        rank.fail()
        self.failures.append(f"rank {rank.number} has failed")

    @rule(seconds=st.sampled_from([0.1, LOOK_FOR_STALLS, 7.0]))
    def look_for_stalls(self, seconds):
        self.now += seconds
        stalled = self.controller.stalled(self.now)
        if stalled is not None:
            assert stalled <= self.now - 1000.0
            assert self.controller.late(NAMES)

    @rule()
    def have_messages_arrive(self):
        self._bring_all()
        waiting = [rank for rank in self.ranks if not (rank.able or rank.done)]
        late = {int(re.match(r"rank (\d+) to ", words)[1]) for words in self.controller.late(NAMES)}
        assert late or not waiting, "nobody is late, and ranks wait"
        assert late <= {rank.number for rank in self.ranks if not rank.done}, "late is who has nothing to do any more"
        assert any(rank.able for rank in self.ranks) or not waiting, "everybody waits"

    def _bring_all(self):
        while True:
            for rank in self.ranks:
                rank.tell_progress()
            if not self.under_way:
                return
            while self.under_way:
                self._deliver(*min(self.under_way, key=str))

    @invariant()
    def holds(self):
        self.controller.check_invariants()

    def teardown(self):
        while not all(rank.done for rank in self.ranks):
            for rank in self.ranks:
                if rank.able:
                    rank.step()
            self.have_messages_arrive()
        self._bring_all()
        self.controller.check_invariants()
        assert self.controller.late(NAMES) == []
        for _ in range(3):
            self.now += LOOK_FOR_STALLS
            assert self.controller.stalled(self.now) is None
        first, *others = [rank.applied for rank in self.ranks]
        assert all(applied == first for applied in others)
        for rank in self.ranks:
            assert rank.told == self.failures or sorted(rank.told) == sorted(self.failures)
        if not self.failures:
            rounds = {resource: [(place, calls) for of, place, calls in first if of == resource] for resource in "AB"}
            assert rounds == expected(self.workload)
            self._check_collections()

    def _check_collections(self):
        """Each was answered once by each rank, after the rounds that all had called for when they reported."""
        tokens = [(rank.number, number) for rank in self.ranks for number in rank.collections]
        assert self.delivered == {(rank.number, token): 1 for rank in self.ranks for token in tokens}
        for wanting, number in tokens:
            answers = self.ranks[wanting].collections[number]
            assert [rank for rank, _ in answers] == list(range(len(self.ranks)))
            (count,) = {applied for _, applied in answers}
            called_for = set.intersection(*(rank.reports[wanting, number] for rank in self.ranks))
            assert called_for <= {applied[:2] for applied in self.ranks[0].applied[:count]}


SOAK = bool(os.environ.get("H5FLOW_SOAK"))
TestRanks = Ranks.TestCase
TestRanks.settings = settings(max_examples=2000 if SOAK else 50, stateful_step_count=60, deadline=None)


def join(resource, place, call="call", progress=None, waits=True):
    return Join(pickled_resource(resource), place, pickled(call), waits, progress or Progress(place[0][0], place[0][1]))


def test_who_is_late_is_named_since_the_others_wait_for_it():
    controller = Controller(3)
    place = ((BEFORE, 0, 0), 0)
    assert controller.receive(0, join("structure", place)) == [(1, ProgressWanted()), (2, ProgressWanted())]
    assert controller.stalled(100.0) is None
    assert controller.stalled(100.0 + LOOK_FOR_STALLS / 2) is None
    assert controller.stalled(107.0) == 7.0
    assert controller.late(["generator"]) == [
        "rank 1 to finish init of its components, for structure",
        "rank 2 to finish init of its components, for structure",
    ]
    assert controller.receive(2, join("structure", place)) == []
    assert controller.stalled(110.0) is None  # others are late now than before
    assert controller.stalled(111.0) == 1.0
    assert controller.late(["generator"]) == ["rank 1 to finish init of its components, for structure"]
    assert [rank for rank, _ in controller.receive(1, Proceed(Progress(BEFORE, 1)))] == [0, 1, 2]
    assert controller.stalled(120.0) is None
    assert controller.late(["generator"]) == []


def test_who_has_not_sent_its_rows_is_late():
    controller = Controller(2)
    token = (1, 5)
    out = controller.receive(1, Collect(5, pickled_resource("'hits'"), pickled("which")))
    assert out == [(0, Report(token)), (1, Report(token))]
    assert controller.receive(0, Reported(token)) == []
    assert controller.late([]) == ["rank 1 to send what it has written to 'hits'"]
    out = controller.receive(1, Reported(token))
    assert out == [(rank, Deliver(token, pickled_resource("'hits'"), pickled("which"))) for rank in range(2)]
    assert controller.receive(1, Delivered(token, pickled("b"))) == []
    assert controller.late([]) == ["rank 0 to send what it has written to 'hits'"]
    assert controller.receive(0, Delivered(token, pickled("a"))) == [(1, Collected(5, [pickled("a"), pickled("b")]))]
    assert controller.late([]) == []


def test_a_call_that_comes_too_late_is_refused_with_the_cure():
    controller = Controller(2)
    place = ((LOOP, 1, 1), 0)
    for rank in range(2):
        out = controller.receive(rank, join("'hits'", place, progress=Progress(LOOP, 0, [1, 0])))
    assert [type(message) for _, message in out] == [Closed, Closed]
    ((rank, refused),) = controller.receive(0, join("'hits'", ((LOOP, 0, 2), 0), progress=Progress(LOOP, 0, [1])))
    assert rank == 0
    assert resource_of(refused.resource) == "'hits'"
    assert "rank 0 uses 'hits' on slice number 0" in refused.why
    assert "runtime.mode: sequential" in refused.why


@pytest.mark.parametrize("failing", [0, 1])
def test_after_a_failure_all_are_told_and_nothing_is_waited_for(failing):
    controller = Controller(2)
    controller.receive(0, join("structure", ((BEFORE, 0, 0), 0)))
    controller.receive(0, Collect(0, pickled_resource("'hits'"), pickled("which")))
    assert controller.receive(failing, Failed("no disk")) == [(0, RankFailed("no disk")), (1, RankFailed("no disk"))]
    controller.check_invariants()
    assert controller.late(["generator"]) == []
    assert controller.receive(1, join("structure", ((BEFORE, 0, 0), 0))) == []
    assert controller.receive(1, Reported((0, 0))) == []
    assert controller.late(["generator"]) == []
