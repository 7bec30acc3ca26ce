"""A file that can't grow any more: nothing is lost without an error, and the process lives on.

The limit on the size of files stands for a disk without room.
"""

from __future__ import annotations

import contextlib
import logging
import resource
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

from h5flow.data import H5FlowDataManager
from h5flow.data.file.output_file import OutputFile
from h5flow.data.storage import SerialStorage
from h5flow.errors import FileError
from h5flow.runtime.prefetching import Loading

CHUNK = 16384


@contextlib.contextmanager
def no_room(path: Path) -> Iterator[None]:
    """No file can become longer than this one is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def settled(path: Path, compression: str | None = None) -> H5FlowDataManager:
    """A manager of a file of which HDF5 has the last chunks in its cache, still to be written."""
    values = np.random.default_rng(1).integers(0, 1 << 60, CHUNK * 126)
    with H5FlowDataManager(str(path), compression=compression) as dm:
        dm.create_dset("x", "i8")
        dm.write_data("x", dm.reserve_data("x", CHUNK * 120), values[: CHUNK * 120])
    dm = H5FlowDataManager(str(path), compression=compression)
    dm.write_data("x", dm.reserve_data("x", CHUNK * 6), values[CHUNK * 120 :])
    dm.data_file._cache.budget = 0
    dm.data_file._cache.settle()
    return dm


READS = pytest.mark.parametrize(
    "read",
    [lambda dm: dm["x", : CHUNK * 100], lambda dm: dm.get_dset("x")[: CHUNK * 100 : 2, ...]],
    ids=["rows", "handle"],
)


@READS
def test_a_read_that_loses_rows(tmp_path, read):
    """Catches an output that looks complete: HDF5 drops a chunk that it can't write, and tells who reads others."""
    path = tmp_path / "out.h5"
    dm = settled(path, "gzip")
    with no_room(path), pytest.raises(FileError, match=r"^file '.*out.h5' can't be written: File too large$"):
        read(dm)
    assert len(dm["x", : CHUNK * 100]) == CHUNK * 100
    with pytest.raises(FileError, match=r"out.h5' is incomplete, it couldn't be written earlier: File too large$"):
        dm.finish()
    with h5py.File(path) as file:
        assert len(file["x/data"][:]) == CHUNK * 126


@READS
def test_a_read_that_can_lose_nothing(tmp_path, read):
    """Chunks that aren't compressed are in the file as soon as they are written."""
    path = tmp_path / "out.h5"
    dm = settled(path)
    with no_room(path):
        read(dm)
    dm.finish()
    with h5py.File(path) as file:
        values = np.random.default_rng(1).integers(0, 1 << 60, CHUNK * 126)
        np.testing.assert_array_equal(file["x/data"][:], values)


def test_a_failed_write_that_nobody_minds(tmp_path):
    path = tmp_path / "out.h5"
    dm = settled(path)
    values = np.arange(CHUNK * 100)
    dm.reserve_data("x", len(values))
    with no_room(path), contextlib.suppress(FileError):
        dm.write_data("x", slice(CHUNK * 126, CHUNK * 226), values)
    with pytest.raises(FileError, match="incomplete"):
        dm.close_file()


def test_nothing_is_loaded_ahead_from_a_broken_file():
    """Catches a prefetch that swallows the only error there is."""

    def load(*_: object) -> None:
        raise FileError("no room")

    def fail(*_: object) -> None:
        raise ValueError("too early")

    item = SimpleNamespace(number=0, rows=slice(0, 1), prefetched={}, timing=None)
    forecast, tracer = SimpleNamespace(early=lambda: [(1, "x", None)]), SimpleNamespace(file_changed=threading.RLock())
    with pytest.raises(FileError, match="no room"):
        Loading(SimpleNamespace(load=load), forecast, tracer, "x", SimpleNamespace(warm=True)).ahead(item)  # type: ignore[arg-type]
    Loading(SimpleNamespace(load=fail), forecast, tracer, "x", SimpleNamespace(warm=True)).ahead(item)  # type: ignore[arg-type]
    assert item.prefetched["x"].stale


@pytest.mark.parametrize("rows", [10, 20_000, 200_000])
def test_closing(tmp_path, rows):
    """Catches errors of HDF5's that aren't `FileError`: which class they have depends on what can't be written."""
    path = tmp_path / "out.h5"
    dm = H5FlowDataManager(str(path))
    dm.create_dset("x", "i8")
    dm.fh.flush()
    dm.write_data("x", dm.reserve_data("x", rows), np.arange(rows))
    with no_room(path), pytest.raises(FileError, match=r"can't be written: File too large$"):
        dm.finish()


def test_flushing_a_handle(tmp_path):
    """Catches rows that a later flush, with room again, doesn't write any more."""
    path = tmp_path / "out.h5"
    dm = H5FlowDataManager(str(path))
    dm.create_dset("x", "i8")
    dm.fh.flush()
    dm.write_data("x", dm.reserve_data("x", 10), np.arange(10))
    with no_room(path), pytest.raises(FileError, match=r"can't be written: File too large$"):
        dm.fh.flush()
    with pytest.raises(FileError, match="incomplete"):
        dm.finish()


def test_abandoning_hides_no_other_error(tmp_path, caplog, monkeypatch):
    dm = H5FlowDataManager(str(tmp_path / "out.h5"))
    dm.create_dset("x", "i8")

    def flush(_: SerialStorage) -> None:
        raise RuntimeError("unusual")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(SerialStorage, "flush", flush)
        dm.data_file.abandon()
    assert caplog.messages == ["unusual"]


@pytest.mark.parametrize("limit", [0, 3_000, 100_000, 200_000, 300_000, 500_000])
def test_the_process_goes_on(tmp_path, limit):
    """Catches a crash of HDF5, which can't close a file that it can't write; not all systems have `memfd_create`."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import gc, os, resource, sys
        import numpy as np
        from h5flow.data import H5FlowDataManager
        from h5flow.errors import FileError

        if hasattr(os, "memfd_create"):
            del os.memfd_create
        limit = int(sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        dm = None
        try:
            dm = H5FlowDataManager("out.h5")
            for name in "xy":
                dm.create_dset(name, [("a", "i8"), ("b", "f4", (3,))])
            dm.create_ref("x", "y")
            for _ in range(40):
                for name in "xy":
                    dm.reserve_data(name, 4000)
                dm.write_ref("x", "y", np.c_[np.arange(4000), np.arange(4000)])
                dm.fh.flush()
        except FileError as error:
            print(error)
        if dm is not None:
            dm.data_file.abandon()
        del dm
        gc.collect()
        print("alive")
        """)
    )
    done = subprocess.run(
        [sys.executable, str(script), str(limit)], cwd=tmp_path, capture_output=True, text=True, timeout=50
    )
    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    assert done.stdout.endswith("alive\n")


def test_an_output_that_cannot_get_its_name(tmp_path):
    output = OutputFile(str(tmp_path / "out.h5"))
    output.prepare(None)
    h5py.File(output.working, "w").close()
    (tmp_path / "out.h5").mkdir()
    with pytest.raises(FileError, match=r"out.h5' can't be given its name: .*; it is complete as '.*out.h5.partial'"):
        output.publish()


@pytest.mark.parametrize("rows", [1_000, 40_000, 400_000])
def test_the_cache_of_compressed_chunks_holds_a_few_of_them(tmp_path, rows):
    path = tmp_path / "in.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x/data", (rows,), "i8", chunks=(rows,), maxshape=(None,), compression="gzip")
        usual = file["x/data"].id.get_access_plist().get_chunk_cache()
    storage = SerialStorage(str(path), "r")
    dataset = storage.dataset("/x/data")
    assert dataset is not None
    slots, size, preemption = dataset.handle.id.get_access_plist().get_chunk_cache()
    assert (slots, preemption) == (usual[0], usual[2])
    assert size == max(1 << 20, 4 * 8 * rows)
    storage.close()


@pytest.mark.parametrize("compression", [None, "gzip"])
@pytest.mark.parametrize("rest", range(20_000, 300_000, 23_001))
def test_closing_after_a_failure_says_the_same(tmp_path, compression, rest):
    """Also in the moment in which a dataset gets longer chunks."""
    path = tmp_path / "a.h5"
    dm = H5FlowDataManager(str(path), compression=compression)
    dm.create_dset("x", "u8")
    dm.fh.flush()
    random = np.random.default_rng(1)

    def fill():
        with dm:
            for _ in range(10):
                dm.write_data("x", dm.reserve_data("x", 5000), random.integers(0, 1 << 63, 5000, "u8"))
                dm.fh.flush()

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + rest, hard))
    try:
        with pytest.raises(FileError, match="File too large"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
