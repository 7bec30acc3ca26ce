"""What a rank does of what all have agreed on for a file, and of what other ranks ask it for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from h5flow.data.buffer.paged_dataset import PagedDataset
from h5flow.data.collective.agreement import Difference, agreed
from h5flow.data.collective.calls import (
    Append,
    ChangeStructure,
    EndLoop,
    Publish,
    Reserve,
    Stop,
    TakeCommunicator,
    made,
)
from h5flow.data.file.changes import SetAttributes
from h5flow.data.file.data_file import DataFile
from h5flow.data.layout import lies_in
from h5flow.data.references.tables import RegionTable
from h5flow.data.resource import Resource
from h5flow.data.storage import object_references
from h5flow.data.storage.remote import RankDataset
from h5flow.errors import DataMismatch, H5FlowError, NotInFile
from h5flow.ranks.member import Components, Late, NoComponents
from h5flow.ranks.rounds import Round
from h5flow.ranks.stall_watch import StallWatch

#: The group in which a job is recorded, each rank as it sees it.
_RECORD = "h5flow"
_SAME_FOR_ALL = "give all ranks the same value, as of self.comm.allreduce(count) in finish"

_log = logging.getLogger(__name__)


class FileMember:
    """One of the ranks of a file that rank 0 owns, as its coordination with the others sees it."""

    #: Whether all ranks have the file open, so that there are rounds that they carry out at once.
    all_open = False

    def __init__(self, file: DataFile, rank: int) -> None:
        self.file = file
        self.rank = rank
        #: Those that are at work now.
        self.components: Components = NoComponents()
        #: Say whether a rank has been asked to stop in time for all of them to know before the loop is over.
        self.stopping = False
        self._on_stop: list[Callable[[], None]] = []
        self._stalls = StallWatch()
        self._strict = False
        self._told: set[tuple[str, str]] = set()

    def work_for(self, components: Components) -> None:
        """Let calls belong to the components that are at work from now on."""
        self.components = components

    def listen_for_stop(self, listener: Callable[[], None]) -> None:
        """Register a function to be called when any rank has been asked to stop."""
        self._on_stop.append(listener)

    def watch(self, names: Sequence[str], warning: float, abort: float | None, *, strict: bool) -> None:
        """Log what ranks have been waiting for so long (seconds), and end all of them after `abort`.

        Where it is `strict`, it is an error that ranks set an attribute to different values.
        """
        self._stalls = StallWatch(names, warning, abort)
        self._strict = strict

    def stalled(self, seconds: float, late: Late) -> None:
        """Take note how long the same ranks have been waited for."""
        self._stalls.note(seconds, late)

    # carried out

    def apply(self, closed: Round, own: Callable[[], Any] | None) -> Any:
        """Do what the ranks have agreed on; the lock is held."""
        match made(closed.calls)[0]:
            case ChangeStructure() as call:
                if self.set_what_all_want(closed):
                    return None
                return own() if own is not None else self.file.carry_out(call.change())
            case TakeCommunicator():
                return None
            case EndLoop():
                return None not in closed.calls
            case Stop():
                self.stopping = True
                for listener in self._on_stop:
                    listener()
                return None not in closed.calls
            case Publish():
                self.refresh({path for call in closed.calls for path in call.changed})
                return None
        return self.grow(closed)

    def concerns_all(self, _closed: Round) -> bool:
        """Say whether a round is carried out by all ranks at once: none is where one rank writes for all of them."""
        return False

    def carry_out(self, closed: Round, own: Callable[[], Any] | None) -> Any:
        """Do what the ranks have agreed on, at once; never called where no round concerns all."""
        raise NotImplementedError

    def set_what_all_want(self, closed: Round) -> bool:
        """Set the attributes of a round in which ranks want different ones; says whether it is such a round.

        The lowest rank's value is kept, with a warning; raises `DataMismatch` instead where that is an error.
        """
        calls: dict[int, ChangeStructure] = {rank: call for rank, call in enumerate(closed.calls) if call is not None}
        packs = {rank: call.pack for rank, call in calls.items() if call.sets_attributes and call.pack is not None}
        if len(packs) < len(calls) or len(set(packs.values())) < 2:
            return False
        wishes = {}
        for rank in packs:
            change = calls[rank].change()
            assert isinstance(change, SetAttributes)
            wishes[rank] = (change.path, change.attributes)
        if any(lies_in(path, (_RECORD,)) for path, _ in wishes.values()):
            return False
        merged, differences = agreed(wishes)
        for difference in differences:
            self._tell(difference, taking_part=self.rank in wishes)
        if differences and self._strict:
            return True
        for path, attributes in merged.items():
            self.file.carry_out(SetAttributes(path, attributes))
        return True

    def _tell(self, difference: Difference, *, taking_part: bool) -> None:
        if self._strict:
            if taking_part:
                raise DataMismatch(f"{difference}; {_SAME_FOR_ALL}")
            return
        if self.rank == 0 and (difference.path, difference.name) not in self._told:
            self._told.add((difference.path, difference.name))
            _log.warning("%s; that of rank %d is kept: %s", difference, difference.kept, _SAME_FOR_ALL)

    def grow(self, closed: Round) -> int:
        """Add the rows of a round to a dataset; returns the first of this rank's."""
        rows, counts, new = self.growth(closed)
        length, call = rows.length, closed.calls[self.rank]
        first = length + sum(counts[: self.rank])
        own = (call.start, call.stop) if isinstance(call, Reserve) else (first, first + counts[self.rank])
        if new > length:
            self.file.context.observer.append(rows.resource, length, new - length)
            rows.grow(new)
            rows.others.reserved(length, min(own[0], new))
            rows.others.reserved(max(own[1], length), new)
        return first

    def growth(self, closed: Round) -> tuple[PagedDataset, list[int], int]:
        """Return the dataset of a round, the rows that each rank appends, and the length that it gets."""
        rows = self.file.catalog.paged(closed.resource.path)
        assert rows is not None
        counts = [call.count if isinstance(call, Append) else 0 for call in closed.calls]
        stops = [call.stop for call in closed.calls if isinstance(call, Reserve)]
        return rows, counts, max([rows.length + sum(counts), *stops])

    def deliver(self, resource: Resource, start: int, stop: int) -> list[tuple[int, int]]:
        """Let other ranks read what this one has written to rows; the lock is held.

        Returns which of them it has written, where they have to be told.
        """
        rows = self.file.catalog.paged(resource.path)
        if rows is None or not isinstance(rows.stored, RankDataset):
            return []  # of what the owner has others get the pages
        rows.flush()
        return rows.stored.written_between(start, stop)

    def refresh(self, changed: set[str]) -> None:
        """Note that datasets have been changed by some rank, and the file has it."""
        for rows in self.file.catalog.pages():
            rows.others.seen()
            if rows.path in changed and isinstance(rows.stored, RankDataset):
                rows.drop_pages()
                rows.stored.forget_original()

    # what other ranks ask the owner for

    def serve(self, request: tuple[Any, ...]) -> Any:
        """Do what another rank asks for; the lock is held."""
        what, path, start, content = request
        rows = self.file.catalog.paged(path)
        if rows is None:
            raise NotInFile(f"'{path}' isn't in '{self.file.path}'")
        if rows.dtype.hasobject:
            return self._serve_objects(rows, what, start, content)
        if what == "read":
            return rows.read(start, content)
        if what == "merge":
            assert isinstance(rows, RegionTable)
            return rows.merge(start, content)
        rows.changing()
        if what == "put":
            return rows.update(start, content)
        if what != "write":
            raise H5FlowError(f"unknown request '{what}'")
        return rows.write(start, content)

    def _serve_objects(self, rows: PagedDataset, what: str, start: Any, content: Any) -> Any:
        """Serve, as `serve` does, values that are Python objects, of which references lead to objects of a file."""
        file = rows.stored.handle.file
        if what == "read":
            return object_references.portable(rows.read(start, content), file)

        def reference(found: object_references.Lead) -> Any:
            to = None if found.path is None else self.file.catalog.paged(found.path.decode())
            if to is not None:
                to.stored.fix()
            return object_references.reference(found, file)

        rows.changing()
        values = object_references.mapped(content, object_references.Lead, reference).astype(rows.dtype)
        return rows.update(start, values) if what == "put" else rows.write(start, values)
