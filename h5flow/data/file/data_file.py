"""The file of a run, from its opening to its end: what is in it, what is changed, what is still to be written."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from h5flow.data.access.file_context import FileContext
from h5flow.data.access.observer import Observer
from h5flow.data.buffer.page_cache import PageCache
from h5flow.data.file.catalog import Catalog
from h5flow.data.file.changes import Change, Delete, StoreRegions
from h5flow.data.file.checkpoints import Checkpoints
from h5flow.data.file.open_files import OpenFiles
from h5flow.data.file.output_file import OutputFile
from h5flow.data.file.ranks import FileRanks
from h5flow.data.references.reference import Reference
from h5flow.data.storage import Storage
from h5flow.errors import DataMismatch, UsageError

_log = logging.getLogger(__name__)


class DataFile:
    """What all views of a data manager share, and the runtime sees to.

    Users' calls come by the data manager, which takes the lock of the `context`. `ranks` gives the ranks that write
    the file, of which each makes one; what changes the structure is collective.
    """

    def __init__(
        self,
        path: str,
        mode: str,
        drop: tuple[str, ...],
        compression: str | None,
        ranks: Callable[[DataFile], FileRanks],
    ) -> None:
        self.context = FileContext()
        self.files = OpenFiles(path, mode, drop, compression)
        self.ranks = ranks(self)
        self._cache = PageCache(self.context.file_changed, others=self.ranks.several)
        self.catalog = Catalog(self.files, self.context, self._cache, alone=not self.ranks.all_open)
        # What ranks have open together they could only bring up to date together.
        self._checkpoints = None if self.ranks.all_open else Checkpoints()
        self._copied = False
        self.context.shared_by(self.ranks)
        self.files.opened_by(self.ranks)

    @property
    def path(self) -> str:
        """Return the path of the file while it is at work."""
        return self.files.path

    # who is at work

    def watch(self, observer: Observer) -> None:
        """Tell an observer of all accesses."""
        self.context.watched_by(observer)
        self.catalog.observe_anew()

    def use_raw_chunks(self, wanted: bool) -> None:
        """Say whether chunks may be read and compressed without HDF5, which pays on several threads."""
        self._cache.use_raw_chunks(wanted)

    # opening and closing

    def begins_as(self, origin: str | None) -> None:
        """Say which file the output began as a copy of."""
        self.files.begins_as(origin)

    def begin(self, output: OutputFile, source: str | None, *, opens: bool = True) -> None:
        """Begin the output as a copy of a file, or as it is, or empty. Collective.

        Several ranks open it, unless it is known to be replaced by something else; then this is called again.
        """
        self.ranks.begin(output, source, opens=opens)

    def start_with_copy_of(self, path: str) -> None:
        """Replace the file by a copy of another one, unless it is the same; done once."""
        if not self._copied and Path(path).resolve() != Path(self.path).resolve():
            self._close()
            import shutil

            shutil.copyfile(path, self.path)
            self.files.replaced()
        self._copied = True

    def close(self) -> None:
        """Write what is buffered and close. The next use opens again. Collective."""
        self.ranks.close(self._close)

    def finish(self) -> None:
        """Delete what is to be dropped from the output, and close. Collective."""
        try:
            self.ranks.close(self._close, self._delete_dropped)
            self.ranks.end()
        finally:
            self.files.remove_temporary()

    def _close(self) -> None:
        for storage in self._written():
            storage.close()

    def _written(self) -> list[Storage]:
        """Write all that was buffered and return the files; this object lets go of them."""
        storages = self.files.open_storages()
        try:
            if storages:
                self.flush()
            for storage in storages:
                storage.flush()
        except BaseException:
            for storage in storages:
                storage.give_up()
            raise
        finally:
            self.files.let_go()
            self.catalog.forget_all()
        return storages

    def _delete_dropped(self) -> None:
        files = self.files
        if files.drop and files.mode != "r" and (files.is_open or Path(files.path).exists()):
            for name in files.drop:
                if files.main.find(name) is not None:
                    self.carry_out(Delete(name))

    def never_there(self) -> list[str]:
        """List what is to be dropped of which the run has seen nothing."""
        with self.context.lock:
            return self.files.never_there()

    def abandon(self, for_others: bool = False) -> None:
        """Close when nobody is to be told of errors: what can be saved is, the temporary file is gone.

        With other ranks nothing is saved, since that is something that all of them do together. With `for_others`,
        h5py closes the file as soon as nobody has an object of it, such as attributes.
        """
        if self.ranks.several:
            self.files.remove_temporary()
        else:
            self.let_go(save=True, close=not for_others)

    def let_go(self, *, save: bool, close: bool = True) -> None:
        """Close after a failure, best effort: what is buffered is lost, unless it is to be saved and can be."""
        try:
            storages = self._written() if save else self.files.open_storages()
            for storage in storages if close else ():
                storage.close()
        except Exception as error:  # noqa: BLE001 - what made the run fail is on its way, and mustn't be hidden
            _log.error("%s", error)
        finally:
            self.files.remove_temporary()

    # bringing the file up to date

    def flush(self) -> None:
        """Write what is buffered; it stays readable in memory."""
        with self.context.lock:
            self.catalog.flush()

    @property
    def has_to_settle(self) -> bool:
        """Say whether `settle` would write anything."""
        return self._cache.full or self._is_checkpoint_due

    def settle(self) -> None:
        """Write the oldest of what is buffered, if it is too much, and make a checkpoint, if one is due."""
        if self._cache.full:
            self._cache.settle()
            if self._checkpoints is not None:
                self.files.main.flush()
        if self._checkpoints is not None and self._checkpoints.due:
            with self._checkpoints.made():
                self._make_checkpoint()

    def _make_checkpoint(self) -> None:
        self._cache.deflate()
        with self.context.lock:
            self.catalog.flush_whole_chunks()
            self.files.main.flush()

    @property
    def _is_checkpoint_due(self) -> bool:
        return self._checkpoints is not None and self._checkpoints.due

    # changes of the structure

    def commit(self, change: Change) -> None:
        """Make a change when all ranks have agreed on it, unless it is made. Collective; the lock is held."""
        if not change.is_made(self.catalog):
            self.ranks.commit(change)

    def carry_out(self, change: Change) -> None:
        """Make a change that is agreed on, unless it is made; the lock is held."""
        if change.is_made(self.catalog):
            return
        watching = self.context.watching
        for path in change.creates(self.catalog):
            watching.created(path)
        for resource in change.updates():
            watching.update(resource, None)
        change.carry_out(self.catalog)

    def delete(self, name: str) -> None:
        """Remove what lies at a path, and references that involve it. Collective; the lock is held."""
        if not name:
            raise UsageError(f"all of '{self.path}' can't be deleted; say which dataset or group")
        self.commit(Delete(name))

    def store_regions(self, reference: Reference) -> None:
        """Make the file hold region tables that it lacks. Collective; the lock is held. Raises `DataMismatch`."""
        parent, child = reference.parent, reference.child
        if self.ranks.all_open and any(self.files.find(table.path) is not None for table in reference.regions):
            raise DataMismatch(
                f"references '{parent}' → '{child}' came without whole region tables, and ranks that write the file"
                " together can't complete them; choose runtime.storage: single-writer"
            )
        self.commit(StoreRegions(parent, child))
