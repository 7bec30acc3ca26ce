"""h5py's lock and the file's: nobody waits for the file's with h5py's, which others need to go on."""

from __future__ import annotations

import functools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py._objects import phil

from h5flow.data import H5FlowDataManager
from h5flow.data.access.observer import NOBODY


class Watch:
    """An observer, and thus somebody who may have to wait for other threads."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self._other = ThreadPoolExecutor(1)

    def check(self, what: str) -> None:
        """Note with what h5py's lock is held."""
        if not self._other.submit(_is_free).result():
            self.called.append(what)

    def length(self, resource: str, now: int) -> int:
        """All rows are seen."""
        self.check("length")
        return now

    def exists(self, path: str, found: bool) -> bool:
        """All there is is seen."""
        self.check("exists")
        return found

    @property
    def leaves_alone(self) -> bool:
        """Everything is told."""
        self.check("leaves_alone")
        return False

    def __getattr__(self, name: str):
        return lambda *_, **__: self.check(name)


def _is_free() -> bool:
    # Another thread may have it for a moment; who called the observer has it for as long as that waits.
    end = time.monotonic() + 2
    while not phil.acquire(blocking=False):
        if time.monotonic() > end:
            return False
        time.sleep(1e-3)
    phil.release()
    return True


@pytest.fixture
def dm(tmp_path: Path):
    with H5FlowDataManager(str(tmp_path / "out.h5")) as manager:
        for name in ("A", "B"):
            manager.create_dset(name, [("a", "i8"), ("b", "f4")])
            manager.reserve_data(name, 300)
        yield manager


def virtual(name: str, group: h5py.Group) -> h5py.Dataset:
    layout = h5py.VirtualLayout((3,), "i8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    return group.create_virtual_dataset(name, layout)


def as_context(file: h5py.File) -> None:
    with file:
        pass


USES = {
    "repr": lambda file, rows: [repr(rows), str(rows)],
    "repr of a group": lambda file, rows: repr(file["A"]),
    "repr of a file": lambda file, rows: repr(file),
    "require group": lambda file, rows: [file.require_group("A"), file.require_group("new/one")],
    "require dataset": lambda file, rows: [file.require_dataset(name, (3,), "i8") for name in ("new/one", "new/one")],
    "create dataset": lambda file, rows: file.create_dataset("new/one", (3,), "i8"),
    "create dataset like": lambda file, rows: file.create_dataset_like("new/one", rows),
    "virtual": lambda file, rows: virtual("new/one", file),
    "set": lambda file, rows: file.__setitem__("new", np.arange(3)),
    "link": lambda file, rows: file.__setitem__("new", rows),
    "delete": lambda file, rows: file.__delitem__("A"),
    "get": lambda file, rows: [file.get("A"), file.get("A", getlink=True), file.get("no", getclass=True)],
    "copy": lambda file, rows: [file.copy("A", "C"), file.copy("A/data", file["B"], "D"), file.copy(rows, "E")],
    "copy into a group": lambda file, rows: file.copy("A", file["B"]),
    "move": lambda file, rows: file.move("A", "C"),
    "visit": lambda file, rows: [file.visit(len), file.visititems(lambda path, found: len(found) and None)],
    "look": lambda file, rows: [list(file), list(reversed(file)), list(file.items()), len(file), "A" in file],
    "set default": lambda file, rows: file.setdefault("A"),
    "parent": lambda file, rows: [rows.parent, rows.parent.parent, rows.file],
    "attributes": lambda file, rows: [dict(rows.attrs), dict(file.attrs), rows.attrs.update(a=1)],
    "length": lambda file, rows: [len(rows), rows.len(), rows.shape, rows.size, rows.nbytes],
    "read": lambda file, rows: [rows[3], rows[3:5], rows[::2], rows[[1, 5]], rows["a"], rows["a", 3:5], rows[()]],
    "read masked": lambda file, rows: rows[np.arange(300) % 2 == 0],
    "read as": lambda file, rows: [rows.fields("a")[3:5], rows.astype([("a", "f8"), ("b", "f8")])[3:5]],
    "array": lambda file, rows: [np.asarray(rows), next(iter(rows)), list(rows.iter_chunks())],
    "read direct": lambda file, rows: rows.read_direct(np.empty(300, rows.dtype)),
    "write": lambda file, rows: [rows.__setitem__(key, rows[5]) for key in (3, slice(3, 5), slice(0, 9, 2), ...)],
    "write field": lambda file, rows: rows.__setitem__(("a", slice(3, 5)), 7),
    "write direct": lambda file, rows: rows.write_direct(np.zeros(300, rows.dtype)),
    "resize": lambda file, rows: [rows.resize(400, axis=0), rows.resize((500,))],
    "region": lambda file, rows: rows[rows.regionref[3:5]],
    "flush": lambda file, rows: [file.flush(), rows.flush()],
    "context": lambda file, rows: as_context(file),
}
VISITS_LINKS = hasattr(h5py.Group, "visit_links")  # from h5py 3.11 on
if VISITS_LINKS:
    USES |= {
        "visit links": lambda file, rows: file.visit_links(lambda path: len(file[path]) and None),
        "visit items of links": lambda file, rows: file.visititems_links(lambda path, link: len(file[path]) and None),
    }


@pytest.mark.filterwarnings("default::h5py.h5py_warnings.H5pyDeprecationWarning")
@pytest.mark.parametrize("use", USES)
def test_nobody_waits_with_the_lock_of_h5py(dm, monkeypatch, use):
    watch = Watch()
    file, rows = dm.fh, dm.get_dset("A")
    dm.write_data("B", slice(0, 3), np.zeros(3, rows.dtype))
    flush = type(dm._file).flush

    def flushing(self: object) -> None:
        watch.check("flush")  # which waits for who reads
        flush(self)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(type(dm._file), "flush", flushing)
        dm.data_file.watch(watch)
        USES[use](file, rows)
        dm.data_file.watch(NOBODY)
    assert watch.called == []


def test_texts_wait_for_nobody(dm):
    """Catches a deadlock: one thread has the file's lock and wants h5py's, the other one wants the file's."""
    file, group, rows = dm.fh, dm["A"], dm.get_dset("A")
    dm.reserve_data("A", 5)
    texts: list[str] = []
    with dm.data_file.context.lock:
        thread = threading.Thread(target=lambda: texts.extend(map(repr, (file, group, rows))), daemon=True)
        thread.start()
        thread.join(5)
    assert texts == [
        '<HDF5 file "out.h5" (mode r+)>',
        '<HDF5 group "/A" (1 members)>',
        '<HDF5 dataset "data": shape (305,), type "|V12">',
    ]
    dm.close_file()
    assert [repr(closed) for closed in (file, group, rows)] == [
        "<Closed HDF5 file>",
        "<Closed HDF5 group>",
        "<Closed HDF5 dataset>",
    ]


def test_requiring(dm):
    file = dm.fh
    assert repr(file.require_group("A")) == repr(dm["A"])
    assert repr(file.require_group("new/one")) == '<HDF5 group "/new/one" (0 members)>'
    with pytest.raises(TypeError, match="Incompatible object"):
        file.require_group("A/data")
    with pytest.raises(TypeError, match="Shapes do not match"):
        file.require_dataset("A/data", (3,), dm.get_dset("A").dtype)
    assert file.require_dataset("C/data", (3,), "i8").shape == (3,)
    assert dm["C", 0:3].tolist() == [0, 0, 0]


@pytest.mark.skipif(not VISITS_LINKS, reason="this h5py doesn't")
def test_visiting_links(dm):
    file = dm.fh
    links: list[str] = []
    assert file.visit_links(links.append) is None
    assert links == ["A", "A/data", "B", "B/data"]
    assert file.visititems_links(lambda path, link: path if isinstance(link, h5py.HardLink) else None) == "A"


def test_watching(dm):
    """That the observer here sees what it is to find."""
    watch = Watch()
    dm.data_file.watch(watch)
    with phil:
        len(dm.get_dset("A"))
    dm.data_file.watch(NOBODY)
    assert "counted" in watch.called
    assert functools.reduce(max, map(len, watch.called)) > 0
