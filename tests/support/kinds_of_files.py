"""One of each kind of what HDF5 files hold: layouts, filters, types, links, names, attributes."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
from h5py import h5a, h5d, h5g, h5l, h5o, h5p, h5r, h5s, h5t, h5z

ROWS = 12


def low_level(group, kind, values=None, layout=None, shape=(ROWS,), most=None, change=None):
    """`data` of a type that h5py's `create_dataset` doesn't make."""
    creation = h5p.create(h5p.DATASET_CREATE)
    if layout is not None:
        creation.set_layout(layout)
    if layout == h5d.CHUNKED:
        creation.set_chunk((4,))
    if change is not None:
        change(creation)
    made = h5d.create(group.id, b"data", kind, h5s.create_simple(shape, most), creation)
    if values is not None:
        made.write(h5s.ALL, h5s.ALL, values)


def integer(size, order=h5t.ORDER_LE, stored=None):
    kind = (h5t.STD_I64LE if order == h5t.ORDER_LE else h5t.STD_I64BE).copy()
    kind.set_precision(8 * size)
    kind.set_size(stored or size)
    return kind


def bfloat():
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_precision(16)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


def chunked(**options):
    return lambda group: group.create_dataset("data", data=np.arange(ROWS), chunks=(4,), maxshape=(None,), **options)


def of_type(dtype, values=None):
    def make(group):
        data = np.arange(ROWS).astype(dtype) if values is None else np.array(values, dtype)
        group.create_dataset("data", data=data, dtype=dtype, maxshape=(None,), chunks=(4,))

    return make


def objects(dtype, values):
    def make(group):
        made = group.create_dataset("data", (ROWS,), dtype, maxshape=(None,), chunks=(4,))
        for row, value in enumerate(values):
            made[row] = value

    return make


def outside(group):
    file = Path(group.file.filename).with_suffix(".raw")
    np.arange(ROWS, dtype="i4").tofile(file)
    group.create_dataset("data", (ROWS,), "i4", external=[(file.name, 0, ROWS * 4)])


def virtual(group, unlimited=False):
    most = (None,) if unlimited else None
    group.create_dataset("part", data=np.arange(ROWS) * 3, maxshape=most)
    sheet = h5py.VirtualLayout((ROWS,), "i8", maxshape=most)
    part = h5py.VirtualSource(".", f"{group.name}/part", (ROWS,), maxshape=most)
    if unlimited:
        sheet[0 : h5s.UNLIMITED] = part[0 : h5s.UNLIMITED]
    else:
        sheet[:] = part
    group.create_virtual_dataset("data", sheet, fillvalue=-1)


def references(group, regions=False):
    target = group.create_dataset("target", data=np.arange(100))
    other = group.create_group("other")
    kind = h5py.regionref_dtype if regions else h5py.ref_dtype
    made = group.create_dataset("data", (ROWS,), kind, maxshape=(None,), chunks=(4,))
    for row in range(ROWS - 2):
        made[row] = target.regionref[row : row + 2] if regions else (target if row % 2 else other).ref


def references_in_records(group):
    target = group.create_dataset("target", data=np.arange(100))
    dtype = np.dtype([("number", "i4"), ("leads_to", h5py.ref_dtype), ("text", h5py.string_dtype())])
    values = np.array([(row, target.ref, "x" * row) for row in range(ROWS)], dtype)
    group.create_dataset("data", data=values, maxshape=(None,), chunks=(4,))


def named_type(group):
    group["record"] = np.dtype([("a", "i4"), ("b", "f8")])
    group["record"].attrs["unit"] = "mm"
    made = group.create_dataset("data", (ROWS,), group["record"], maxshape=(None,), chunks=(4,))
    made["a"] = np.arange(ROWS)
    made.attrs.create("one", np.array((1, 2.5), made.dtype), dtype=group["record"])


PADDED = np.dtype({"names": ["a", "b"], "formats": ["<i2", ">f8"], "offsets": [6, 16], "itemsize": 40})
NESTED = np.dtype([("in", [("n", "i4"), ("s", "S3"), ("x", "f4", (2, 2))]), ("c", "c16"), ("on", "?")])
RECORD = np.dtype([("a", "i2"), ("b", "f8", (2,))])

#: Datasets `data` whose rows h5py can read.
READABLE = {
    "compact": lambda group: low_level(group, h5t.STD_I32LE, np.arange(ROWS, dtype="i4"), h5d.COMPACT),
    "contiguous": lambda group: group.create_dataset("data", data=np.arange(ROWS)),
    "early": lambda group: low_level(
        group,
        h5t.STD_I32LE,
        np.arange(ROWS, dtype="i4"),
        h5d.CHUNKED,
        most=(h5s.UNLIMITED,),
        change=lambda creation: creation.set_alloc_time(h5d.ALLOC_TIME_EARLY),
    ),
    "external": outside,
    "virtual": virtual,
    "virtual without end": lambda group: virtual(group, unlimited=True),
    "chunked": chunked(),
    "gzip": chunked(compression="gzip", compression_opts=9),
    "lzf": chunked(compression="lzf"),
    **({"szip": chunked(compression="szip", compression_opts=("nn", 4))} if h5z.filter_avail(h5z.FILTER_SZIP) else {}),
    "shuffle": chunked(shuffle=True, compression="gzip"),
    "fletcher32": chunked(fletcher32=True),
    "scaleoffset": chunked(scaleoffset=5),
    "fixed": lambda group: group.create_dataset("data", data=np.ones((ROWS, 3)), chunks=(4, 2)),
    "limited": lambda group: group.create_dataset("data", data=np.ones((ROWS, 3)), chunks=(4, 2), maxshape=(90, 5)),
    "unlimited": lambda group: group.create_dataset("data", data=np.ones((ROWS, 3)), maxshape=(None, None)),
    "images": lambda group: group.create_dataset("data", data=np.ones((ROWS, 3, 2), "u1"), maxshape=(None, 3, 2)),
    "no rows": lambda group: group.create_dataset("data", (0,), "i4", maxshape=(None,)),
    "filled": lambda group: group.create_dataset("data", (ROWS,), "i4", fillvalue=7, maxshape=(None,)),
    "filled records": lambda group: group.create_dataset(
        "data", (ROWS,), RECORD, fillvalue=np.array((1, [2, 3]), RECORD), maxshape=(None,)
    ),
    "filled contiguous": lambda group: group.create_dataset("data", (ROWS,), "f4", fillvalue=-1.5),
    **{dtype: of_type(dtype) for dtype in ("i1", ">i2", "<u4", ">u8", "f2", ">f4", "f8", "g", "c8", ">c16", "?")},
    "56 bits": lambda group: low_level(group, integer(7, h5t.ORDER_BE, 8), np.arange(ROWS) - 5),
    "bits": lambda group: low_level(group, h5t.STD_B16BE),
    "enum": of_type(h5py.enum_dtype({"red": 0, "green": 5}, "i2")),
    "opaque": of_type("V5", [b"ab"] * ROWS),
    "dates": lambda group: group.create_dataset(
        "data", data=np.arange(ROWS).astype("M8[s]").astype(h5py.opaque_dtype(np.dtype("M8[s]"))), maxshape=(None,)
    ),
    "bytes": of_type("S6", [b"abc"] * ROWS),
    "text of fixed length": of_type(h5py.string_dtype("utf-8", 9), ["nöw".encode()] * ROWS),
    "text": objects(h5py.string_dtype(), ["é" * row for row in range(ROWS)]),
    "ascii": objects(h5py.string_dtype("ascii"), ["a" * row for row in range(ROWS)]),
    "lists": objects(h5py.vlen_dtype("f4"), [np.arange(row) for row in range(ROWS)]),
    "lists of records": objects(h5py.vlen_dtype(RECORD), [np.zeros(row, RECORD) for row in range(ROWS)]),
    "nested": of_type(NESTED, np.zeros(ROWS, NESTED)),
    "padded": of_type(PADDED, np.ones(ROWS, PADDED)),
    "arrays": lambda group: group.create_dataset("data", (ROWS,), np.dtype(("i4", (2, 3))), maxshape=(None,)),
    "references": references,
    "regions": lambda group: references(group, regions=True),
    "references in records": references_in_records,
    "named type": named_type,
}

#: What h5py can't read, or what has no rows.
OTHER = {
    "null": lambda group: group.create_dataset("data", data=h5py.Empty("f4")),
    "scalar": lambda group: group.create_dataset("data", data=5),
    "scalar text": lambda group: group.create_dataset("data", data="text"),
    "time": lambda group: low_level(group, h5t.UNIX_D32LE),
    "three bytes": lambda group: low_level(group, integer(3)),
    "seven bytes": lambda group: low_level(group, integer(7, h5t.ORDER_BE)),
    "odd float": lambda group: low_level(group, bfloat()),
    "unknown filter": lambda group: low_level(
        group, h5t.STD_I32LE, None, h5d.CHUNKED, change=lambda creation: creation.set_filter(32099, 1, (1, 2))
    ),
    "odd names": lambda group: odd_names(group),
    "links": lambda group: links(group),
    "ordered": lambda group: ordered(group),
    "attributes": lambda group: attributes(group),
    "odd attributes": lambda group: odd_attributes(group),
}


def odd_names(group):
    for name in ("ünïcode", "a b", "a.b", "..", "x" * 2000, "tab\t", "new\nline", '"', "'", "*", "{}", "/deep//er"):
        if name != "..":
            group.create_group(name.strip("/"))
    h5g.create(group.id, b"no text \xff\xfe")
    h5d.create(group.id, b"data \xfd", h5t.STD_I32LE, h5s.create_simple((3,)))


def links(group):
    inner = group.create_group("inner")
    inner["itself"] = inner
    inner["up"] = group
    group["table"] = np.arange(3)
    inner["the same"] = group["table"]
    group["soft"] = h5py.SoftLink("inner")
    group["soft cycle"] = h5py.SoftLink("soft cycle")
    group["dangling"] = h5py.SoftLink("/nowhere")
    group["outside"] = h5py.ExternalLink("nowhere.h5", "/x")


def ordered(group):
    made = group.create_group("in order", track_order=True)
    for name in ("zebra", "ape", "mule"):
        made.create_group(name)
        made.attrs[name] = 1


def attributes(group):
    for number in range(40):
        group.attrs[f"many {number}"] = np.arange(number)
    group.attrs["text"] = "naïve"
    group.attrs["bytes"] = np.bytes_(b"ab")
    group.attrs["texts"] = ["a", "bc"]
    group.attrs["nothing"] = h5py.Empty("f8")
    group.attrs["record"] = np.array((1, [2, 3]), RECORD)
    group.attrs["raw"] = np.void(b"\x00\x01")
    group.attrs["on"] = True
    group.attrs["big"] = np.arange(5000)
    group.attrs["leads to"] = group.ref
    group.attrs.create("colour", 5, dtype=h5py.enum_dtype({"green": 5}))
    group.attrs.create("lists", np.array([np.arange(2), np.arange(3)], object), dtype=h5py.vlen_dtype("i4"))


def odd_attributes(group):
    group.attrs["text"] = "naïve"
    h5a.create(group.id, b"time", h5t.UNIX_D32LE, h5s.create_simple((2,)))
    h5a.create(group.id, b"odd float", bfloat(), h5s.create_simple((2,)))


#: Files as a whole: options of `h5py.File`.
FILES = {
    "earliest": {"libver": "earliest"},
    "v108": {"libver": ("v108", "v108")},
    "latest": {"libver": "latest"},
    "user block": {"userblock_size": 1024},
    "in order": {"track_order": True},
    "pages": {"fs_strategy": "page"},
}


def make(path, kinds=None, **options):
    """A file of some kinds, by default all, each in a group of its own; and a table of numbers, `raw`."""
    with h5py.File(path, "w", **{"libver": ("v108", "latest"), **options}) as file:
        for kind in ({**READABLE, **OTHER}) if kinds is None else kinds:
            {**READABLE, **OTHER}[kind](file.create_group(f"kinds/{kind}"))
        file.create_dataset("raw/data", data=np.arange(30.0), maxshape=(None,), chunks=(4,))
    return str(path)


def same(one, other, files):
    """Whether values are equal, and references lead to the same; each with the file that it is from."""
    if isinstance(one, h5py.Empty):
        return isinstance(other, h5py.Empty) and one.dtype == other.dtype
    if isinstance(one, h5r.RegionReference | h5r.Reference):
        names = [file[value].name if value else None for value, file in zip((one, other), files, strict=True)]
        return names[0] == names[1] and (not isinstance(one, h5r.RegionReference) or same_region(one, other, files))
    if isinstance(one, np.ndarray | np.void) and one.dtype.names:
        return all(same(one[name], other[name], files) for name in one.dtype.names)
    if isinstance(one, np.ndarray):
        if one.dtype.kind != "O":
            return one.shape == other.shape and one.dtype == other.dtype and one.tobytes() == other.tobytes()
        return one.shape == other.shape and all(
            same(first, second, files) for first, second in zip(one.ravel(), other.ravel(), strict=True)
        )
    return bool(np.all(one == other))


def same_region(one, other, files):
    """Whether references lead to the same elements."""
    if not one or not other:
        return not one and not other
    (first, second) = (
        h5r.get_region(value, file.id).get_select_bounds() for value, file in zip((one, other), files, strict=True)
    )
    return bool(first == second)


def objects_of(file):
    """Path and object of all that is in a file, as HDF5 has them, each object once."""
    todo = [(b"", file["/"].id)]
    found = {b"/": file["/"].id}
    seen = {h5o.get_info(file["/"].id).addr}
    while todo:
        above, group = todo.pop()
        for name in group:
            if group.links.get_info(name).type != h5l.TYPE_HARD:
                continue
            one = h5o.open(group, name)
            found[above + b"/" + name] = one
            if isinstance(one, h5g.GroupID) and h5o.get_info(one).addr not in seen:
                seen.add(h5o.get_info(one).addr)
                todo.append((above + b"/" + name, one))
    return found
