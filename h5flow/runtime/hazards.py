"""What may run when: the order of reads and writes that gives the file that sequential mode gives.

In sequential mode component p (0 the generator, 1, 2, … the stages) does its work on slice n at *moment*
`(n, p)`, and moments pass in order. A pipeline reaches later moments before earlier ones. The file is the same
nevertheless if every two accesses to the same rows, one of them a write, happen in the order of their
moments. Three means see to that:

- *Visible length.* Rows are mostly appended. A component at a moment is shown as many rows of a dataset as it
  had at that moment, so what runs ahead appends without being noticed.
- *Waiting.* An access that needs what a later component does on an earlier slice waits for it. Who writes
  what is known from claims: what components create before the loop, and all that they have done since.
- *Checking.* All accesses are noted for as long as an earlier moment is still to come. One that turns out
  to have come too late is loaded again if it was prefetched and nobody has seen it, and otherwise an error.

Most accesses are to rows that belong to the slice, because it has appended them or because they have the numbers
of the slice's own rows. Slices that are at work at the same time don't share these, so nobody waits for them.

This module only decides. It knows no files, threads or event loops; its owner makes one call at a time.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import numpy as np

from h5flow.data.access.observer import Rows
from h5flow.data.resource import Resource
from h5flow.errors import H5FlowError

# From so many on, what is noted of a resource is looked through for what is too old.
_FEW = 64

#: A slice and a component that works on it.
Moment = tuple[int, int]

#: A read that looks at no row, but at how many there are.
HOW_MANY = (-1, -1)


class Claim:
    """What a component does with a resource; `FAR_`: to rows that don't belong to the slice. Flags."""

    READ: Final = 1
    FAR_READ: Final = 2
    APPEND: Final = 4
    UPDATE: Final = 8
    FAR_UPDATE: Final = 16

    READS: Final = READ | FAR_READ
    UPDATES: Final = UPDATE | FAR_UPDATE
    WRITES: Final = APPEND | UPDATES


# What earlier slices' later components may do with a resource so that an access has to wait for them.
_WAITS_FOR = {
    Claim.READ: Claim.FAR_UPDATE,
    Claim.FAR_READ: Claim.UPDATES,
    Claim.APPEND: Claim.APPEND,
    Claim.UPDATE: Claim.FAR_READ | Claim.FAR_UPDATE,
    Claim.FAR_UPDATE: Claim.READS | Claim.UPDATES,
}


class Conflict(H5FlowError):
    """An access that came too late to be put in order."""


class Prefetched(msgspec.Struct):
    """A value that was loaded before its moment; `stale` once something it was made of has changed."""

    value: Any = None
    stale: bool = False
    #: Whether a component has got it, so that it can't be loaded again.
    accepted: bool = False
    reads: list[tuple[Resource, Rows]] = msgspec.field(default_factory=list)


class _Resource(msgspec.Struct):
    """What is known of a dataset, a reference table, the attributes of a group, or the existence of a path."""

    claims: dict[int, int] = msgspec.field(default_factory=dict)
    #: The last component that has any.
    last_claimer: int = -1
    reads: list[tuple[Moment, Rows, Prefetched | None]] = msgspec.field(default_factory=list)
    updates: list[tuple[Moment, Rows, bool]] = msgspec.field(default_factory=list)
    #: Moments of growth, in order; the lengths before them, and behind these the length now.
    grown_at: list[Moment] = msgspec.field(default_factory=list)
    lengths: list[int] = msgspec.field(default_factory=list)
    #: Where the rows of this resource are rows of another one, that one.
    rows_of: _Resource | None = None
    #: How much may be noted before what is too old is dropped.
    limit: int = _FEW


class Hazards:
    """The state of all resources of a run.

    `names` are those of the components, the generator's first; `source` is the rows that slices are of.
    Each kind of access has its question before and its note after, so there are many methods; the state is one.
    """

    def __init__(self, names: Sequence[str], source: Resource) -> None:
        self._names = names
        self._resources: dict[Resource, _Resource] = {}
        self._source = self._of(source)
        self._finished = [-1] * len(names)
        self._last = len(names) - 1
        self._own: dict[int, tuple[int, int]] = {}
        self._slices: dict[int, tuple[int, int]] = {}
        self._highest = 0
        self._created: dict[Resource, Moment] = {}
        #: Grows with each new claim, after which requirements may have become late.
        self.version = 0

    # who does what

    def claim(self, position: int, resource: Resource, claim: int) -> None:
        """Note that a component does something with a resource."""
        self._claim(self._of(resource), position, claim)

    def _claim(self, known: _Resource, position: int, claim: int) -> None:
        made = known.claims.get(position, 0)
        if made & claim != claim:
            known.claims[position] = made | claim
            known.last_claimer = max(known.last_claimer, position)
            self.version += 1

    def learn(self, moment: Moment, resource: Resource, kind: int, rows: Rows) -> None:
        """Note of an access in order (a READ or UPDATE) only what the component does, for slices to come."""
        self._claim_precisely(self._of(resource), moment, kind, rows)

    def claimed(self, resource: Resource, claim: int) -> list[int]:
        """Return the components that do any of this with a resource, in order."""
        known = self._resources.get(resource)
        return [] if known is None else sorted(p for p, made in known.claims.items() if made & claim)

    @property
    def components(self) -> int:
        """Return the number of components."""
        return len(self._names)

    def same_rows(self, resource: Resource, other: Resource) -> None:
        """Say that the rows of a resource are those of another one, and are appended with them."""
        self._of(resource).rows_of = self._of(other)

    # progress

    def begin(self, number: int, start: int, stop: int) -> None:
        """Note that the generator yields rows `start:stop` as a slice; its own, unless one at work has them too."""
        # The last one that is done is kept: what overlaps it will overlap one that is not.
        while self._slices and (first := next(iter(self._slices))) < self._finished[self._last]:
            del self._slices[first]
            self._own.pop(first, None)
        overlapping = start < self._highest and any(a < stop and start < b for a, b in self._slices.values())
        self._highest = max(self._highest, stop)
        self._slices[number] = (start, stop)
        if not overlapping:
            self._own[number] = (start, stop)

    @property
    def next_number(self) -> int:
        """Return the number of the next slice, when all are done."""
        return self._finished[self._last] + 1

    def finish(self, moment: Moment) -> None:
        """Note that a component is done with a slice."""
        number, position = moment
        self._finished[position] = number

    def others_before(self, moment: Moment) -> Moment | None:
        """Find a moment before this one that is still to come."""
        number, position = moment
        for later in range(position + 1, len(self._names)):
            if self._finished[later] < number - 1:
                return (number - 1, later)
        return None

    def used_after(self, moment: Moment) -> str | None:
        """Name something that has been read or written at a later moment; `None` where nothing has."""
        for resource, known in self._resources.items():
            noted = itertools.chain(known.grown_at[-1:], (r[0] for r in known.reads), (u[0] for u in known.updates))
            if any(later > moment for later in noted):
                return str(resource)
        return None

    # before an access

    def awaited(self, moment: Moment, resource: Resource, kind: int, rows: Rows) -> Moment | None:
        """Say what has to be finished before this access (a READ, APPEND or UPDATE); `None` if nothing.

        Only later components are waited for, with the slice before; those before are done with this one.
        """
        known = self._resources.get(resource)
        number, position = moment
        if known is None or known.last_claimer <= position:
            return None
        if rows is HOW_MANY:
            against = Claim.APPEND
        else:
            against = _WAITS_FOR[kind if kind == Claim.APPEND else self._precise(known, number, kind, rows)]
            if rows is None and kind != Claim.APPEND:
                against |= Claim.APPEND
        for later, claims in known.claims.items():
            if later > position and claims & against and self._finished[later] < number - 1:
                return (number - 1, later)
        return None

    def _precise(self, known: _Resource, number: int, kind: int, rows: Rows) -> int:
        """Return READ or UPDATE as it is, or as one of rows that don't belong to the slice."""
        if self._belong(known, number, rows):
            return kind
        return Claim.FAR_READ if kind == Claim.READ else Claim.FAR_UPDATE

    def _belong(self, known: _Resource, number: int, rows: Rows) -> bool:
        """Say whether rows belong to a slice."""
        if rows is None:
            return False
        lowest, highest = _span(rows)
        own = self._own.get(number)
        # In other datasets than the source, some of the rows of these numbers may be meant by chance, but not all.
        of_source = (known.rows_of or known) is self._source
        if own is not None and own[0] <= lowest and highest < own[1] and (of_source or (lowest, highest + 1) == own):
            return True
        appended = self._first_appended(known, number)
        return appended is not None and lowest >= appended

    def _first_appended(self, known: _Resource, number: int) -> int | None:
        """Return the first row that a slice has appended, if any."""
        known = known.rows_of or known
        first = bisect.bisect_left(known.grown_at, (number, -1))
        return known.lengths[first] if first < len(known.grown_at) else None

    # accesses

    def length(self, moment: Moment, resource: Resource, now: int) -> int:
        """Say how many rows a resource has at a moment; `now` is how many there are."""
        known = self._resources.get(resource)
        if known is None or not known.grown_at or known.grown_at[-1] <= moment:
            return now
        return known.lengths[bisect.bisect_right(known.grown_at, moment)]

    def exists(self, moment: Moment, resource: Resource) -> bool:
        """Say whether what exists now did so at a moment."""
        created = self._created.get(resource)
        return created is None or created <= moment

    def read(
        self,
        moment: Moment,
        resource: Resource,
        rows: Rows,
        prefetched: Prefetched | None = None,
        as_lookup: bool = False,
    ) -> None:
        """Note a read. What is read `as_lookup` may have been updated later, but `in_order`.

        Raises `Conflict`; a prefetched value is stale instead.
        """
        known = self._of(resource)
        for update, changed, in_order in known.updates:
            if update > moment and not (as_lookup and in_order) and _overlap(changed, rows):
                if prefetched is None or prefetched.accepted:
                    raise self._conflict(resource, moment, "reads", update, "has changed")
                prefetched.stale = True
                return
        if prefetched is not None:
            prefetched.reads.append((resource, rows))
        elif not as_lookup:
            self._claim_precisely(known, moment, Claim.READ, rows)
        if rows is None and known.reads:
            last, whole, value = known.reads[-1]
            if last == moment and whole is None and value is prefetched:
                return
        if len(known.reads) >= known.limit:
            self._forget(known)
        known.reads.append((moment, rows, prefetched))

    def append(self, moment: Moment, resource: Resource, length: int, grown: int) -> None:
        """Note that a resource of `length` rows gets `grown` more. Raises `Conflict`."""
        known = self._of(resource)
        self._claim(known, moment[1], Claim.APPEND)
        if known.grown_at and known.grown_at[-1] > moment:
            raise self._conflict(resource, moment, "appends to", known.grown_at[-1], "has appended to")
        if len(known.grown_at) >= known.limit:
            self._forget(known)
        if not known.grown_at:
            known.lengths[:] = [length]
        known.grown_at.append(moment)
        known.lengths.append(length + grown)
        self._check_reads(known, moment, resource, None, growth=True)

    def update(self, moment: Moment, resource: Resource, rows: Rows, in_order: bool = False) -> None:
        """Note a write to rows that exist. Raises `Conflict`.

        With `in_order` another resource, whose visible length hides them from earlier look-ups, keeps them in order.
        """
        known = self._of(resource)
        self._claim_precisely(known, moment, Claim.UPDATE, rows)
        if len(known.updates) >= known.limit:
            self._forget(known)
        for update, changed, _ in known.updates:
            if update > moment and not in_order and _overlap(changed, rows):
                raise self._conflict(resource, moment, "changes", update, "has changed")
        appended = self._first_appended(known, moment[0])
        if appended is None or rows is None or _span(rows)[0] < appended:
            known.updates.append((moment, rows, in_order))
        self._check_reads(known, moment, resource, rows)

    def create(self, moment: Moment, resource: Resource) -> None:
        """Note that something comes into existence. Raises `Conflict`."""
        self._created[resource] = moment
        self.update(moment, resource, None)

    def _check_reads(
        self, known: _Resource, moment: Moment, resource: Resource, rows: Rows, growth: bool = False
    ) -> None:
        """Find reads of later moments that have missed a write at `moment`."""
        for read, seen, prefetched in known.reads:
            if read <= moment:
                continue
            missed = (seen is None or seen is HOW_MANY) if growth else _overlap(seen, rows)
            if not missed:
                continue
            if prefetched is None or prefetched.accepted:
                raise self._conflict(resource, moment, "writes", read, "has read")
            prefetched.stale = True

    def _claim_precisely(self, known: _Resource, moment: Moment, kind: int, rows: Rows) -> None:
        number, position = moment
        made = known.claims.get(position, 0)
        far = Claim.FAR_READ if kind == Claim.READ else Claim.FAR_UPDATE
        if rows is HOW_MANY or (made & kind and made & far):
            return
        claim = self._precise(known, number, kind, rows)
        if not made & claim:
            self._claim(known, position, claim)

    # memory

    def _of(self, resource: Resource) -> _Resource:
        known = self._resources.get(resource)
        if known is None:
            known = self._resources[resource] = _Resource()
        return known

    def _forget(self, known: _Resource) -> None:
        """Drop what was noted on slices that all components are done with."""
        done = self._finished[self._last]
        known.reads = [noted for noted in known.reads if noted[0][0] > done]
        known.updates = [noted for noted in known.updates if noted[0][0] > done]
        first = bisect.bisect_left(known.grown_at, (done + 1, -1))
        del known.grown_at[:first], known.lengths[:first]
        known.limit = max(_FEW, 2 * max(len(known.reads), len(known.updates), len(known.grown_at)))

    def check_invariants(self) -> None:
        """Raise `AssertionError` where what is known contradicts itself; tests call this after every step."""
        assert all(later <= earlier for earlier, later in itertools.pairwise(self._finished)), self._finished
        assert self._own.items() <= self._slices.items()
        owned = sorted(rows for rows in self._own.values() if rows[0] < rows[1])
        assert all(one[1] <= other[0] for one, other in itertools.pairwise(owned)), owned
        for known in self._resources.values():
            assert known.last_claimer == max(known.claims, default=-1)
            assert known.grown_at == sorted(known.grown_at)
            assert known.lengths == sorted(known.lengths)
            assert len(known.lengths) == len(known.grown_at) + 1 or not known.lengths
            assert max(len(known.reads), len(known.updates), len(known.grown_at)) <= known.limit

    def _conflict(self, resource: Resource, moment: Moment, does: str, other: Moment, did: str) -> Conflict:
        return Conflict(
            f"{self._names[moment[1]]} {does} {resource} on slice number {moment[0]}, which"
            f" {self._names[other[1]]} {did} on slice number {other[0]} already;"
            " run this workflow with runtime.mode: sequential"
        )


def _span(rows: tuple[int, int] | np.ndarray[Any, np.dtype[np.int64]]) -> tuple[int, int]:
    """Return the lowest and the highest of some rows; of none, a row that is out of everybody's way."""
    if isinstance(rows, tuple):
        return (rows[0], rows[1] - 1)
    return (int(rows[0]), int(rows[-1])) if len(rows) else (np.iinfo(np.int64).max, -1)


def _overlap(one: Rows, other: Rows) -> bool:
    if one is None or other is None:
        return True
    if isinstance(one, tuple) and isinstance(other, tuple):
        return one[0] < other[1] and other[0] < one[1]
    if isinstance(one, tuple):
        one, other = other, one
    assert not isinstance(one, tuple)
    if isinstance(other, tuple):
        first, last = np.searchsorted(one, other)
        return bool(first < last)
    return bool(np.isin(one, other).any())
