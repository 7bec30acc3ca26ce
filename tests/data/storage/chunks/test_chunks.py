"""Chunks that are read and written without HDF5 hold the rows that h5py reads and writes."""

from __future__ import annotations

import ctypes
import importlib.util
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import h5py
import numpy as np
import pytest
from h5py import h5d, h5s, h5t
from hypothesis import given, settings
from hypothesis import strategies as st

from h5flow.data.storage.chunks import format as chunk_format
from h5flow.data.storage.chunks import reader as chunks
from h5flow.data.storage.chunks import writer as chunk_writer
from h5flow.data.storage.chunks.format import Unsupported
from h5flow.data.storage.chunks.reader import RawChunks
from h5flow.data.storage.chunks.writer import ChunkWriter
from h5flow.errors import DataMismatch, FileError, RowsOutOfRange

INSTALLED = importlib.util.find_spec("blosc2") is not None
needs_blosc2 = pytest.mark.skipif(not INSTALLED, reason="blosc2 is not installed")

GZIP: list[dict] = [{"compression": "gzip", "shuffle": s, "compression_opts": n} for s in (False, True) for n in (1, 4)]
FILTERS: list[dict] = [{}, *([{"shuffle": True}, *GZIP] if INSTALLED else [])]

DTYPES = [
    np.dtype(name)
    for name in ("u1", "<i2", ">i4", "<f8", ">f8", "<f2", "c8", "bool", "S5", "V7", "(3,)<i2", "(2,2)>f4")
] + [
    np.dtype([("id", "u4"), ("t", ">f8"), ("adc", "<i2", (3,)), ("flag", "?")]),
    np.dtype([("a", "u1"), ("b", "f8"), ("c", "S3")], align=True),
    np.dtype([("inner", [("x", "<f4"), ("y", ">i2")]), ("pair", "f4", (2, 2))]),
    h5py.enum_dtype({"on": 1, "off": 0}, "i2"),
    h5py.string_dtype("utf-8", 6),
]


def rows_of(dtype: np.dtype, shape: tuple[int, ...], seed: int, spread: int) -> np.ndarray:
    """Any bytes at all as rows; a `spread` of 1 is zeros, of 2 compresses well, of 256 doesn't."""
    base = np.zeros(shape, dtype)
    values = np.random.default_rng(seed).integers(0, spread, base.nbytes, np.uint8, endpoint=False)
    rows = np.frombuffer(values.tobytes(), base.dtype).reshape(base.shape).copy()
    for name, (kind, *_) in (base.dtype.fields or {}).items():
        if kind.kind == "b":
            rows[name] = rows[name].view("u1") & 1
    return (rows.view("u1") & 1).view(bool) if base.dtype == bool else rows


def same(expected: np.ndarray, actual: np.ndarray) -> bool:
    """Equal to the bit, except for the padding between fields."""
    if expected.dtype != actual.dtype or expected.shape != actual.shape:
        return False
    if expected.dtype.names:
        return all(same(expected[name], actual[name]) for name in expected.dtype.names)
    return expected.tobytes() == actual.tobytes()


@st.composite
def files(draw):
    """How to make a file: arguments for the dataset, and what is written where."""
    dtype = draw(st.sampled_from(DTYPES))
    length = draw(st.integers(0, 150))
    row_shape = draw(st.sampled_from([(), (), (3,), (2, 3)]))
    filters = draw(st.sampled_from(FILTERS))
    chunk = draw(st.integers(1, 40))
    userblock = draw(st.sampled_from([0, 512]))
    contiguous = not filters and length and not userblock and draw(st.booleans())
    arguments = {
        "shape": (length, *row_shape),
        "dtype": dtype,
        "chunks": None if contiguous else (chunk, *row_shape),
        "maxshape": None if contiguous else (None, *row_shape),
        **filters,
    }
    if draw(st.booleans()) and dtype.subdtype is None and dtype.kind in "iuf":
        arguments["fillvalue"] = 7
    elif draw(st.booleans()) and dtype.names and not dtype.fields[dtype.names[0]][0].names:
        arguments["fillvalue"] = rows_of(dtype, (), 3, 256)[()]
    bound = st.integers(0, length)
    spans = st.tuples(bound, bound).map(sorted)
    return {
        "arguments": arguments,
        "written": draw(st.lists(spans, max_size=4)),
        "ranges": draw(st.lists(spans, min_size=1, max_size=6)),
        "spread": draw(st.sampled_from([1, 2, 256])),
        "libver": draw(st.sampled_from(["earliest", ("v110", "v110"), "latest"])),
        "userblock": userblock,
    }


def make(path: Path, drawn: dict) -> np.ndarray:
    arguments = drawn["arguments"]
    shape, dtype = arguments["shape"], arguments["dtype"]
    values = rows_of(dtype, shape, 0, drawn["spread"])
    with h5py.File(path, "w", libver=drawn["libver"], userblock_size=drawn["userblock"]) as file:
        # Another dataset, so that chunks don't lie side by side.
        other = file.create_dataset("other", (0,), "u1", chunks=(100,), maxshape=(None,))
        dataset = file.create_dataset("group/d", **arguments)
        for start, stop in drawn["written"]:
            if stop > start:
                dataset[start:stop] = values[start:stop]
                dataset.flush()
                other.resize((len(other) + 100,))
                other[-100:] = 1
                other.flush()
    return values


@given(files())
@settings(deadline=None)
def test_the_same_rows_as_h5py(tmp_path_factory, drawn):
    """Catches any mistake in dtype, fill value, order of bytes, offsets, edges of chunks."""
    path = tmp_path_factory.mktemp("chunks") / "a.h5"
    make(path, drawn)
    with h5py.File(path) as file:
        dataset = file["group/d"]
        try:
            raw = RawChunks(dataset)
        except Unsupported as error:
            # Chunks of few bytes may be the same at both places that are possible behind a user block.
            assert drawn["userblock"]
            assert "or it can't be told" in str(error)  # noqa: PT017
            return
        assert raw.length == len(dataset)
        for start, stop in [*drawn["ranges"], (0, len(dataset))]:
            assert same(dataset[start:stop], raw.read(start, stop))
        raw.close()


ROW = np.dtype([("id", "u4"), ("channel", "u4"), ("t", "f8"), ("q", "f8"), ("z", "f8")])
EXAMPLES = [
    pytest.param(filters, marks=needs_blosc2 if filters else [], id="+".join(filters) or "plain")
    for filters in ({}, {"shuffle": True}, {"compression": "gzip"}, {"compression": "gzip", "shuffle": True})
]
COMPRESSED = EXAMPLES[2:]


@pytest.fixture
def example(tmp_path):
    """Makes a file of 10,000 rows in chunks of 1,000."""
    path = tmp_path / "example.h5"

    def make(rows=10_000, **arguments):
        values = rows_of(ROW, (rows,), 0, 4)
        with h5py.File(path, "w") as file:
            file.create_dataset("hits/data", data=values, **{"chunks": (1000,), "maxshape": (None,)} | arguments)
        return path, values

    return make


@pytest.mark.parametrize("filters", EXAMPLES)
def test_several_threads_read_at_the_same_time(example, filters):
    path, values = example(**filters)
    with h5py.File(path) as file, ThreadPoolExecutor(4) as pool:
        raw = RawChunks(file["hits/data"])
        starts = np.random.default_rng(0).integers(0, 9000, 200).tolist()
        for start, read in zip(starts, pool.map(lambda start: raw.read(start, start + 1000), starts), strict=True):
            assert same(values[start : start + 1000], read)


@pytest.mark.parametrize("filters", EXAMPLES)
def test_reading_takes_no_lock_of_h5py(example, filters):
    """Catches any use of an h5py object while reading: it would wait for the lock."""
    path, values = example(**filters)
    read = []
    with h5py.File(path) as file:
        raw = RawChunks(file["hits/data"])
        thread = threading.Thread(target=lambda: read.append(raw.read(500, 10_000)), daemon=True)
        with h5py._objects.phil:
            thread.start()
            thread.join(20)
            assert same(values[500:], read[0])


@pytest.mark.parametrize("filters", EXAMPLES)
def test_more_than_one_call_takes(example, monkeypatch, filters):
    """Catches a mistake where a read is cut into calls, and where a system call takes too few views."""
    path, values = example(**filters)
    monkeypatch.setattr(chunks, "_CALL_BYTES", 3 * 1000 * ROW.itemsize + 1)
    monkeypatch.setattr(chunks, "_MAX_VIEWS", 4)
    with h5py.File(path) as file:
        assert same(values[10:], RawChunks(file["hits/data"]).read(10, 10_000))


@pytest.mark.parametrize(("gap", "calls"), [(32_000, 1), (31_999, 10)])
def test_chunks_that_lie_apart_and_backwards(tmp_path, monkeypatch, gap, calls):
    """One system call reads over the chunks of another dataset, unless they are large."""
    values = rows_of(ROW, (10_000,), 0, 4)
    with h5py.File(tmp_path / "a.h5", "w", libver=("v110", "v110")) as file:
        for name in "ab":
            file.create_dataset(name, (10_000,), ROW, chunks=(1000,))
        for start in range(9000, -1, -1000):
            file["a"][start : start + 1000] = values[start : start + 1000]
            file["a"].flush()
            file["b"][start : start + 1000] = 1
            file["b"].flush()
    counted = []
    preadv = chunks.os.preadv
    with h5py.File(tmp_path / "a.h5") as file:
        raw = RawChunks(file["a"])
        monkeypatch.setattr(chunks, "_GAP_BYTES", gap)
        monkeypatch.setattr(chunks.os, "preadv", lambda *arguments: counted.append(1) or preadv(*arguments))
        assert same(values, raw.read(0, 10_000))
    assert len(counted) == calls


@pytest.mark.parametrize("filters", EXAMPLES)
def test_more_chunks_than_a_system_call_takes(example, filters):
    path, values = example(chunks=(5,), **filters)
    with h5py.File(path) as file:
        assert same(values, RawChunks(file["hits/data"]).read(0, 10_000))


def test_system_calls_that_read_less_than_asked(example, monkeypatch):
    path, values = example()
    preadv = chunks.os.preadv
    monkeypatch.setattr(chunks.os, "preadv", lambda fd, views, at: preadv(fd, [views[0][:777]], at))
    with h5py.File(path) as file:
        assert same(values, RawChunks(file["hits/data"]).read(0, 10_000))


@needs_blosc2
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("mask", [0b00, 0b01, 0b10, 0b11])
def test_chunks_whose_filters_were_skipped(tmp_path, shuffle, mask):
    """A chunk says for each filter of the dataset whether it was skipped."""
    values = rows_of(np.dtype("<u4"), (64,), 0, 4)
    filters = [_shuffled] * shuffle + [zlib.compress]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("d", (64,), "<u4", chunks=(16,), compression="gzip", shuffle=shuffle)
        dataset[:] = values
        stored = values[16:32].tobytes()
        for number, apply in enumerate(filters):
            stored = stored if mask >> number & 1 else apply(stored)
        dataset.id.write_direct_chunk((16,), stored, filter_mask=mask & (1 << len(filters)) - 1)
    with h5py.File(tmp_path / "a.h5") as file:
        assert same(values, file["d"][:])
        assert same(values, RawChunks(file["d"]).read(0, 64))


def _shuffled(stored: bytes) -> bytes:
    return np.frombuffer(stored, "u1").reshape(-1, 4).T.tobytes()


@needs_blosc2
@pytest.mark.parametrize("shuffle", [False, True])
def test_a_chunk_that_deflating_left_as_large_as_it_was(tmp_path, shuffle):
    """Blosc would take it for one that isn't deflated."""
    generator = np.random.default_rng(0)
    attempts = (generator.bytes(random) + bytes(256 - random) for _ in range(100) for random in range(220, 240))
    stored = next(attempt for attempt in attempts if len(zlib.compress(attempt)) == 256)
    rows = np.frombuffer(stored, "u1").reshape(4, -1).T.tobytes() if shuffle else stored
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("d", (256,), "<u4", chunks=(64,), compression="gzip", shuffle=shuffle)
        dataset[:] = 5
        dataset.id.write_direct_chunk((64,), zlib.compress(stored))
        assert dataset[64:128].tobytes() == rows
        assert same(dataset[:], RawChunks(dataset).read(0, 256))


def test_rows_that_came_later_are_out_of_range(example):
    path, values = example()
    with h5py.File(path, "r+") as file:
        raw = RawChunks(file["hits/data"])
        file["hits/data"].resize((11_000,))
        assert same(values, raw.read(0, 10_000))
        with pytest.raises(RowsOutOfRange, match=r"^dataset '/hits/data' has 10000 rows, not 9000:11000$"):
            raw.read(9000, 11_000)


@pytest.mark.parametrize("arguments", [{}, {"chunks": None, "maxshape": None}], ids=["chunks", "contiguous"])
def test_rows_that_are_still_in_memory_of_hdf5(example, arguments):
    path, values = example(**arguments)
    with h5py.File(path, "r+") as file:
        file["hits/data"][0:5] = values[5:10]
        values[0:5] = values[5:10]
        assert same(values, RawChunks(file["hits/data"]).read(0, 10_000))


@pytest.mark.parametrize("filters", EXAMPLES)
def test_no_rows(example, filters):
    path, values = example(**filters)
    with h5py.File(path) as file:
        assert same(values[:0], RawChunks(file["hits/data"]).read(500, 500))


@pytest.mark.parametrize("counted_from", [0, 512])
def test_offsets_that_count_from_the_end_of_the_user_block(tmp_path, monkeypatch, counted_from):
    """As some HDF5 versions give them, 1.14.2 for one."""
    path, chunks_of = tmp_path / "a.h5", chunks._chunks_of

    def chunks_as_of(dataset, layout):
        found = chunks_of(dataset, layout)
        shift = path.read_bytes().index(np.arange(10).tobytes()) - counted_from - found[0].offset
        return [chunks._Chunk(chunk.offset + shift, chunk.size, 0) for chunk in found]

    monkeypatch.setattr(chunks, "_chunks_of", chunks_as_of)
    with h5py.File(path, "w", userblock_size=512) as file:
        dataset = file.create_dataset("d", data=np.arange(50), chunks=(10,))
        assert RawChunks(dataset).read(5, 25).tolist() == list(range(5, 25))


def test_another_file_of_the_same_name(example):
    """HDF5 still has the file open that was replaced."""
    path, _ = example()
    with h5py.File(path) as file:
        path.unlink()
        with pytest.raises(Unsupported, match="its file can't be opened once more: No such file"):
            RawChunks(file["hits/data"])
        path.write_bytes(bytes(1_000_000))
        with pytest.raises(Unsupported, match="another file has taken the name of its file"):
            RawChunks(file["hits/data"])


def test_chunks_that_are_not_where_they_should_be(example, monkeypatch):
    path, _ = example()
    monkeypatch.setattr(chunks, "_chunks_of", lambda *_: [chunks._Chunk(5, 32_000, 0)] * 10)
    with h5py.File(path) as file, pytest.raises(Unsupported, match="does not have its chunks where HDF5 says"):
        RawChunks(file["hits/data"])


# what is wrong with a file


@pytest.mark.parametrize("filters", COMPRESSED)
@pytest.mark.parametrize("at", [2, -1], ids=["data", "checksum"])
def test_a_damaged_chunk_names_file_dataset_and_rows(example, filters, at):
    path, values = example(**filters)
    with h5py.File(path) as file:
        info = file["hits/data"].id.get_chunk_info(3)
        raw = RawChunks(file["hits/data"])
    with path.open("r+b") as stream:
        stream.seek(info.byte_offset + at % info.size)
        byte = stream.read(1)
        stream.seek(-1, 1)
        stream.write(bytes([byte[0] ^ 0xFF]))
    assert same(values[:3000], raw.read(0, 3000))
    message = rf"^file '{path}', dataset '/hits/data', rows 3000:4000 can't be read: a chunk can't be inflated \("
    with pytest.raises(FileError, match=message):
        raw.read(0, 10_000)


@pytest.mark.parametrize("filters", COMPRESSED)
def test_a_chunk_of_other_size_names_its_rows(example, filters):
    path, _ = example(9_500, **filters)
    with h5py.File(path, "r+") as file:
        file["hits/data"].id.write_direct_chunk((9000,), zlib.compress(b"short"))
        with pytest.raises(FileError, match=r"rows 9000:9500 can't be read: a chunk has 5 bytes, not 32000$"):
            RawChunks(file["hits/data"]).read(8000, 9500)


@pytest.mark.parametrize("filters", EXAMPLES)
def test_a_truncated_file_is_an_error(example, filters):
    path, _ = example(**filters)
    with h5py.File(path) as file:
        raw = RawChunks(file["hits/data"])
        last = file["hits/data"].id.get_chunk_info(9).byte_offset
    with path.open("r+b") as stream:
        stream.truncate(last + 10)
    with pytest.raises(
        FileError, match=r"'/hits/data', rows .*10000 can't be read: the file ends before their chunks$"
    ):
        raw.read(0, 10_000)


# what only h5py can read


def refused(dataset: h5py.Dataset) -> bool:
    with pytest.raises(Unsupported):
        RawChunks(dataset)
    return True


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"compression": "lzf"}, "other filters"),
        ({"fletcher32": True}, "other filters"),
        ({"compression": "gzip", "fletcher32": True}, "other filters"),
        ({"scaleoffset": 3, "dtype": "i4"}, "other filters"),
        ({"dtype": h5py.string_dtype()}, "not kept as they are in memory"),
        ({"dtype": h5py.ref_dtype}, "not kept as they are in memory"),
        ({"dtype": h5py.vlen_dtype("i4")}, "not kept as they are in memory"),
        ({"dtype": [("a", "i4"), ("b", h5py.ref_dtype)]}, "not kept as they are in memory"),
        ({"shape": (10, 10), "chunks": (10, 5)}, "cut into chunks"),
        ({"shape": ()}, "not in chunks"),
        ({"external": [("elsewhere", 0, 1000)]}, "not in chunks"),
    ],
    ids=str,
)
def test_what_only_h5py_can_read(tmp_path, arguments, why):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("d", **{"shape": (10,), "dtype": "i4"} | arguments)
        with pytest.raises(Unsupported, match=why):
            RawChunks(dataset)


def test_virtual_and_compact_datasets_are_for_h5py(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["source"] = np.arange(5)
        layout = h5py.VirtualLayout((5,), "i8")
        layout[:] = h5py.VirtualSource(file["source"])
        assert refused(file.create_virtual_dataset("virtual", layout))
        creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        creation.set_layout(h5d.COMPACT)
        h5d.create(file.id, b"compact", h5t.STD_I32LE, h5s.create_simple((5,)), creation)
        assert refused(file["compact"])


@pytest.mark.parametrize("stored", ["null-terminated", "12 bits"])
def test_what_hdf5_converts_is_for_h5py(tmp_path, stored):
    """Bytes in the file that aren't what h5py gives."""
    if stored == "12 bits":
        kind = h5t.STD_I16LE.copy()
        kind.set_precision(12)
    else:
        kind = h5t.C_S1.copy()
        kind.set_size(8)
        kind.set_strpad(h5t.STR_NULLTERM)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        h5d.create(file.id, b"d", kind, h5s.create_simple((5,)))
        assert refused(file["d"])


@needs_blosc2
@pytest.mark.parametrize("filters", ["shuffle", "deflate"])
def test_a_last_chunk_without_filters_is_for_h5py(tmp_path, filters):
    """HDF5 doesn't say when it has left them out because the chunk reaches past the end."""
    libraries = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "libhdf5" in line}
    library = next((path for path in libraries if "libhdf5_hl" not in path), None)
    if library is None:
        pytest.skip("HDF5's library can't be found")
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_chunk((100,))
    if filters == "shuffle":
        creation.set_shuffle()
    else:
        creation.set_deflate(4)
    dont_filter_partial_chunks = 2
    set_chunk_opts = ctypes.CDLL(library).H5Pset_chunk_opts
    set_chunk_opts.argtypes = [ctypes.c_int64, ctypes.c_uint]
    assert set_chunk_opts(creation.id, dont_filter_partial_chunks) >= 0
    with h5py.File(tmp_path / "a.h5", "w", libver=("v110", "v110")) as file:
        dataset = h5py.Dataset(h5d.create(file.id, b"d", h5t.STD_I32LE, h5s.create_simple((250,)), creation))
        dataset[:] = np.arange(250) * 77777
        with pytest.raises(Unsupported, match="its last chunk has no filters"):
            RawChunks(dataset)
        if filters == "deflate":
            writer = ChunkWriter(dataset)
            writer.store(0, writer.deflate(np.arange(200, dtype="<i4")))
            dataset[200:] = np.arange(200, 250)
            assert dataset[:].tolist() == list(range(250))


def test_a_file_in_memory_is_for_h5py(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w", driver="core") as file:
        assert refused(file.create_dataset("d", data=np.arange(5)))


def test_without_blosc2_only_plain_chunks(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "blosc2", None)
    chunk_format.codec.cache_clear()
    try:
        with h5py.File(tmp_path / "a.h5", "w") as file:
            plain = file.create_dataset("plain", data=np.arange(50), chunks=(10,))
            gzip = file.create_dataset("gzip", data=np.arange(50), chunks=(10,), compression="gzip")
            assert RawChunks(plain).read(5, 25).tolist() == list(range(5, 25))
            for reader_or_writer in (RawChunks, ChunkWriter):
                with pytest.raises(Unsupported, match="blosc2 is not installed"):
                    reader_or_writer(gzip)
    finally:
        chunk_format.codec.cache_clear()


def test_without_an_iterator_over_chunks(example, monkeypatch):
    """HDF5 before 1.10.10 and 1.12.3 has to be asked for each chunk."""

    monkeypatch.setattr(chunks, "_CAN_ITERATE", False)
    path, values = example()
    with h5py.File(path) as file:
        dataset = file["hits/data"]
        assert same(values, RawChunks(dataset).read(0, 10_000))
        monkeypatch.setattr(chunks, "_MAX_LOOK_UPS", 9)
        with pytest.raises(Unsupported, match="too long to look up 10 chunks"):
            RawChunks(dataset)


def test_importing_the_module_imports_no_codec():
    """Every process pays for imports."""
    code = "import sys, h5flow.data; sys.exit('blosc2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


# writing


@needs_blosc2
@given(files(), st.sampled_from(GZIP), st.data())
@settings(deadline=None)
def test_plain_h5py_reads_what_was_compressed_on_threads(tmp_path_factory, drawn, filters, data):
    """Catches mistakes in the order of filters, in what Blosc does to runs and noise, in the last chunk."""
    path = tmp_path_factory.mktemp("chunks") / "a.h5"
    arguments = drawn["arguments"]
    shape, dtype = arguments["shape"], arguments["dtype"]
    chunk = (arguments["chunks"] or (7,))[0]
    arguments |= {"chunks": (chunk, *shape[1:]), "maxshape": (None, *shape[1:]), **filters}
    values = rows_of(dtype, shape, 1, drawn["spread"])
    number = st.integers(0, shape[0] // chunk)
    first, last = data.draw(st.tuples(number, number).map(sorted))
    start, stop = first * chunk, last * chunk
    make(path, drawn)
    with h5py.File(path, "r+") as file:
        dataset = file["group/d"]
        expected = dataset[:]
        expected[start:stop] = values[start:stop]
        writer = ChunkWriter(dataset)
        writer.store(start, writer.deflate(values[start:stop]))
        assert same(expected, dataset[:])
        dataset.resize(len(dataset) + 2 * chunk, axis=0)
    with h5py.File(path) as file:
        dataset = file["group/d"]
        assert same(expected, dataset[: shape[0]])
        empty = np.zeros((2 * chunk, *shape[1:]), dtype)
        if "fillvalue" in arguments:
            empty[:] = arguments["fillvalue"]
        assert same(empty, dataset[shape[0] :])


@pytest.mark.parametrize("filters", COMPRESSED)
@pytest.mark.parametrize("spreads", [[1, 256, 4], [256, 256], [1, 1], [256, 1], [4]], ids=str)
def test_runs_and_noise_beside_what_compresses(tmp_path, filters, spreads):
    """Blosc stores what doesn't compress as it is, and runs as their value."""
    values = np.concatenate([rows_of(ROW, (1000,), 0, spread) for spread in spreads])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("d", values.shape, ROW, chunks=(1000,), **filters)
        writer = ChunkWriter(dataset)
        writer.store(0, writer.deflate(values))
        assert same(values, dataset[:])


@pytest.mark.parametrize("filters", COMPRESSED)
def test_several_threads_deflate_at_the_same_time(example, monkeypatch, filters):
    path, values = example(**filters)
    monkeypatch.setattr(chunk_writer, "_CALL_BYTES", 3 * 1000 * ROW.itemsize)
    with h5py.File(path, "r+") as file, ThreadPoolExecutor(4) as pool:
        writer = ChunkWriter(file["hits/data"], level=6)
        backwards = values[:9000][::-1]
        parts = list(pool.map(lambda start: writer.deflate(backwards[start : start + 3000]), (0, 3000, 6000)))
        for number, part in enumerate(parts):
            writer.store(1000 + 3000 * number, part)
    with h5py.File(path) as file:
        assert same(values[:1000], file["hits/data"][:1000])
        assert same(values[:9000][::-1], file["hits/data"][1000:])


@needs_blosc2
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros(9, "i4"), "9 rows of type int32, shape () can't be"),
        (np.zeros(10, ">i4"), "10 rows of type >i4, shape () can't be"),
        (np.zeros((10, 1), "i4"), "10 rows of type int32, shape (1,) can't be"),
    ],
)
def test_only_whole_chunks_of_the_same_type_are_deflated(tmp_path, rows, message):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("d", (25,), "i4", chunks=(10,), compression="gzip")
        with pytest.raises(DataMismatch) as raised:
            ChunkWriter(dataset).deflate(rows)
        assert str(raised.value) == (f"dataset '/d': {message} stored as chunks of 10 rows of type int32, shape ()")


@needs_blosc2
@pytest.mark.parametrize(("start", "rows"), [(1, "1:11"), (20, "20:30")])
def test_chunks_are_stored_only_where_chunks_are(tmp_path, start, rows):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        writer = ChunkWriter(file.create_dataset("d", (25,), "i4", chunks=(10,), compression="gzip"))
        with pytest.raises(DataMismatch, match=f"dataset '/d': rows {rows} of 25 are not whole chunks"):
            writer.store(start, writer.deflate(np.zeros(10, "i4")))


@needs_blosc2
def test_only_gzip_is_written(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for arguments in ({}, {"compression": "lzf"}, {"shuffle": True}):
            with pytest.raises(Unsupported):
                ChunkWriter(file.create_dataset(f"d{len(file)}", (25,), "i4", chunks=(10,), **arguments))


# what gains nothing


def test_only_what_is_worth_looking_up(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        small = file.create_dataset("small", (4095,), "V256", chunks=(64,))
        large = file.create_dataset("large", (4096,), "V256", chunks=(64,))
        lzf = file.create_dataset("lzf", (4096,), "V256", chunks=(64,), compression="lzf")
        assert RawChunks.of(small) is None
        assert RawChunks.of(lzf) is None
        assert RawChunks.of(file.create_dataset("empty", dtype="i4")) is None
        raw = RawChunks.of(large)
        assert raw is not None
        assert raw.good_rows == 16384


@needs_blosc2
def test_only_gzip_is_worth_writing(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        assert ChunkWriter.of(file.create_dataset("gzip", (9,), "V256", chunks=(3,), compression="gzip")) is not None
        assert ChunkWriter.of(file.create_dataset("plain", (9,), "V256", chunks=(3,))) is None
