"""Following references: from rows of one dataset to the rows of another that belong to them.

All steps work on whole arrays. References are kept as counts and children: for each selected row how many
children it has, and the children of all rows one after the other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, overload

import h5py
import numpy as np

from h5flow.data import layout
from h5flow.data.references.stored import data_of
from h5flow.data.rows.selection import Indices, RowSelection, counts_from_start, rows_of
from h5flow.data.rows.taking import GAP_BYTES, pick, take_by_pieces
from h5flow.errors import DanglingReference, DataMismatch

if TYPE_CHECKING:
    import numpy.typing as npt

    # Importing it takes as long as starting a run does otherwise, and not every run follows references.
    Masked = np.ma.MaskedArray[Any, np.dtype[Any]]

Array = np.ndarray[Any, np.dtype[Any]]


class RowSource(Protocol):
    """Rows of a table, wherever they are."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the type of an element."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of all rows together."""
        ...

    def has(self, row: int) -> bool:
        """Say whether there is a row of this number."""
        ...

    def read(self, start: int, stop: int, wanted: Indices | None = None) -> Array:
        """Read rows `start:stop`, cut at the end; those that aren't `wanted` may hold anything."""
        ...

    def take(self, rows: Indices) -> Array:
        """Read the given rows: ascending, without repeats; cut at the end."""
        ...


@overload
def dereference(
    sel: Any,
    ref: Any,
    data: Any = None,
    region: Any = None,
    mask: npt.ArrayLike | None = None,
    ref_direction: tuple[int, int] = (0, 1),
    indices_only: bool = False,
    as_masked: Literal[True] = True,
) -> Masked: ...


@overload
def dereference(
    sel: Any,
    ref: Any,
    data: Any = None,
    region: Any = None,
    mask: npt.ArrayLike | None = None,
    ref_direction: tuple[int, int] = (0, 1),
    indices_only: bool = False,
    *,
    as_masked: Literal[False],
) -> list[Array]: ...


@overload
def dereference(
    sel: Any,
    ref: Any,
    data: Any = None,
    region: Any = None,
    mask: npt.ArrayLike | None = None,
    ref_direction: tuple[int, int] = (0, 1),
    indices_only: bool = False,
    as_masked: bool = True,
) -> Masked | list[Array]: ...


def dereference(
    sel: Any,
    ref: Any,
    data: Any = None,
    region: Any = None,
    mask: npt.ArrayLike | None = None,
    ref_direction: tuple[int, int] = (0, 1),
    indices_only: bool = False,
    as_masked: bool = True,
) -> Masked | list[Array]:
    """Return the children of selected rows: the rows of `data` that `ref` joins to them, or their numbers.

    `sel` is a row number, a slice, a mask, or row numbers in any order, also repeated. `ref` holds pairs (L, 2) of
    row numbers; `ref_direction` says which columns are row and child. `region` is a table (N,) with `start` and
    `stop` for each row, between which all of its references lie; it only saves reading the others (but without it,
    and where `ref` doesn't say of which datasets it is, negative and open selections count from the last row that
    `ref` names). `mask` (n,) is parallel to the selected rows: true leaves the entry out. Arguments may be arrays,
    lists or h5py datasets.

    Returns a masked array (n, m, …) of the type of `data`, m the most children of any row, at least 1: row k holds
    the children of `sel[k]`, by child number, packed to the left. With `indices_only`, or without `data`, it holds
    the child numbers, of the type of `ref`. Without `as_masked` it is a list of n arrays, each in the order of `ref`.

    Raises `RowsOutOfRange` for rows that don't exist, `DanglingReference` for children that `data` doesn't have,
    `DataMismatch` for what isn't pairs, and for a `sel` or `mask` of another shape or type.
    """
    pairs, regions = _tables(sel, ref, region, ref_direction[0])
    rows = rows_of(sel, _selectable(sel, ref, pairs, regions, ref_direction[0]), "the parent", beyond=True)
    left_out = _left_out(mask, len(rows))
    counts, children = children_of(rows, pairs, regions, ref_direction, stored_order=not as_masked)
    counts, children = _without(left_out, counts, children)
    values = children.astype(pairs.dtype) if indices_only or data is None else _gathered(data, children)
    if as_masked:
        return _packed(counts, values)
    return np.split(values, np.cumsum(counts)[:-1]) if len(rows) else []


def dereference_chain(
    sel: Any,
    refs: Sequence[Any],
    data: Any = None,
    regions: Sequence[Any] | None = None,
    mask: npt.ArrayLike | None = None,
    ref_directions: Sequence[tuple[int, int]] | None = None,
    indices_only: bool = False,
) -> Masked:
    """Return the children of the children of selected rows, along any number of references.

    Arguments and errors are those of `dereference`; `refs`, `regions` and `ref_directions` (by default (0, 1)) have
    one item for each step, and `data` belongs to the last one. Returns a masked array (n, m1, m2, …), each m at
    least 1, masked where any link is missing.
    """
    tables = list(regions) if regions is not None else [None] * len(refs)
    directions = list(ref_directions) if ref_directions is not None else [(0, 1)] * len(refs)
    levels: list[Array] = []
    children: Indices = np.empty(0, np.int64)
    stored = np.dtype(np.int64)
    for level, (ref, region, direction) in enumerate(zip(refs, tables, directions, strict=True)):
        pairs, source = _tables(sel if level == 0 else slice(0, 0), ref, region, direction[0])
        if level == 0:
            length = _selectable(sel, ref, pairs, source, direction[0])
            rows = rows_of(sel, length, "the parent", beyond=True)
            left_out = _left_out(mask, len(rows))
        else:
            rows, left_out = RowSelection(0, 0, children), None
        counts, children = children_of(rows, pairs, source, direction)
        counts, children = _without(left_out, counts, children)
        levels.append(counts)
        stored = pairs.dtype
    packed = children.astype(stored) if indices_only or data is None else _gathered(data, children)
    for counts in reversed(levels):
        packed = _packed(counts, packed)
    return cast("Masked", packed)


def children_of(
    rows: RowSelection,
    pairs: RowSource,
    regions: RowSource | None,
    direction: tuple[int, int] = (0, 1),
    stored_order: bool = False,
) -> tuple[Indices, Indices]:
    """Return how many children each of `rows` has, and all of these children.

    The children of a row are ascending, or with `stored_order` as in `pairs`. A row past the end of the
    tables has none.
    """
    if rows.indices is None:
        keys, children = _keyed(rows.start, rows.stop, None, pairs, regions, direction)
    else:
        unique, back = np.unique(rows.indices, return_inverse=True)
        keys, children = _keyed(0, 0, unique, pairs, regions, direction)
    size = len(rows) if rows.indices is None else len(unique)
    if stored_order:
        children = children[np.argsort(keys, kind="stable")]
    elif pairs.dtype != layout.ref_dtype and not _fits_half(children):
        children = children[np.lexsort((children, keys))]
    else:
        # One integer holds row and child, so that one plain sort orders both.
        packed = (keys << 32) | children
        if not (packed[1:] >= packed[:-1]).all():
            packed.sort()
            children = packed & 0xFFFFFFFF
    counts = np.bincount(keys, minlength=size)
    if rows.indices is None or (len(unique) == len(back) and (back[1:] > back[:-1]).all()):
        return counts, children
    starts = np.cumsum(counts) - counts
    return counts[back], children[_ranges(starts[back], counts[back])]


def _keyed(
    start: int,
    stop: int,
    unique: Indices | None,
    pairs: RowSource,
    regions: RowSource | None,
    direction: tuple[int, int],
) -> tuple[Indices, Indices]:
    """Find, for each reference of rows `start:stop` or of rows `unique`, the row's place among them, and the child."""
    last = stop if unique is None else int(unique.max(initial=-1)) + 1
    if regions is None or (isinstance(regions, _Rows) and not regions.has(last - 1)):
        found = pairs.read(0, pairs.shape[0])
    elif unique is None:
        found = _enclosed(regions.read(start, stop), pairs)
    else:
        found = _enclosed(regions.take(unique), pairs)
    parents = found[:, direction[0]].astype(np.int64)
    children = found[:, direction[1]].astype(np.int64)
    if unique is None:
        keys = parents - start
        wanted = (keys >= 0) & (keys < stop - start)
    else:
        keys = np.searchsorted(unique, parents)
        wanted = np.append(unique, -1)[keys] == parents
    if wanted.all():
        return keys, children
    return keys[wanted], children[wanted]


def _enclosed(regions: Array, pairs: RowSource) -> Array:
    """Return the pairs that lie in any of the regions, in their order."""
    starts, stops = regions["start"].astype(np.int64), regions["stop"].astype(np.int64)
    some = stops > starts
    starts, stops = starts[some], stops[some]
    if not len(starts):
        return np.empty((0, 2), pairs.dtype)
    if not (starts[1:] >= starts[:-1]).all():
        order = np.argsort(starts)
        starts, stops = starts[order], stops[order]
    reach = np.maximum.accumulate(stops)
    breaks = np.flatnonzero(starts[1:] > reach[:-1]) + 1
    firsts = starts[np.append(0, breaks)]
    lasts = reach[np.append(breaks, len(reach)) - 1]
    if len(firsts) == 1:
        return pairs.read(int(firsts[0]), int(lasts[0]))
    return pairs.take(_ranges(firsts, lasts - firsts))


def _gathered(data: Any, children: Indices) -> Array:
    """Read rows `children` of `data`, in this order; rows that aren't needed are not read, where they are many."""
    source = _source(data)
    if not len(children):
        return np.empty((0, *source.shape[1:]), source.dtype)
    low, high = int(children.min()), int(children.max())
    if low < 0 or not source.has(high):
        name = getattr(data, "name", None)
        what = f"dataset '{name}'" if name else "the data"
        row = low if low < 0 else high
        raise DanglingReference(f"{what} has {source.shape[0]} rows, reference points to row {row}")
    row_bytes = max(1, source.dtype.itemsize * math.prod(source.shape[1:]))
    if (high - low) * row_bytes <= max(GAP_BYTES, 4 * len(children) * row_bytes):
        values, where = source.read(low, high + 1, children), children - low
        if len(values) == len(where) and (where[1:] > where[:-1]).all():
            return values
        return pick(values, where)
    unique, where = np.unique(children, return_inverse=True)
    return pick(source.take(unique), where)


def _packed(counts: Indices, values: Array) -> Masked:
    """Pack rows of `counts` values each to the left; what is missing is masked, and zero below the mask."""
    width = max(1, int(counts.max(initial=0)))
    shape = (len(counts), width)
    here = np.arange(width) < counts[:, np.newaxis]
    everywhere = len(values) == here.size
    data: Array
    if everywhere:
        data = np.ma.getdata(values).reshape(*shape, *values.shape[1:])
    else:
        data = np.zeros((*shape, *values.shape[1:]), values.dtype)
        _place(data, here, np.ma.getdata(values))
    if isinstance(values, np.ma.MaskedArray):
        mask: Array = np.ones(data.shape, np.ma.make_mask_descr(values.dtype))
        _place(mask, here, np.ma.getmaskarray(values))
    else:
        # Memory that nobody has written to isn't there: where nothing is missing, a mask takes none.
        mask = np.zeros(data.shape, np.ma.make_mask_descr(values.dtype))
        if not everywhere:
            mask.view(np.bool_).reshape(*shape, -1)[~here] = True
    return np.ma.MaskedArray(data, mask=mask)


def _place(into: Array, where: Array, values: Array) -> None:
    """Assign `into[where] = values`, moving rows of several fields as a whole."""
    if into.dtype.names is None or into.dtype.hasobject:
        into[where] = values
        return
    whole = np.dtype((np.void, into.dtype.itemsize))
    into.view(whole)[where] = np.ascontiguousarray(values).view(whole)


def _without(left_out: Array | None, counts: Indices, children: Indices) -> tuple[Indices, Indices]:
    if left_out is None or not left_out.any():
        return counts, children
    return np.where(left_out, 0, counts), children[~np.repeat(left_out, counts)]


def _left_out(mask: npt.ArrayLike | None, count: int) -> Array | None:
    if mask is None:
        return None
    left_out = np.asarray(mask, bool)
    if left_out.shape != (count,):
        raise DataMismatch(f"a mask of shape {left_out.shape} doesn't fit a selection of {count} rows")
    return left_out


def _ranges(starts: Indices, counts: Indices) -> Indices:
    """Return `start, …, start + count - 1` for each, one after the other."""
    before = np.cumsum(counts) - counts
    ranges: Indices = np.arange(counts.sum()) + np.repeat(starts - before, counts)
    return ranges


def _selectable(sel: Any, ref: Any, pairs: RowSource, regions: RowSource | None, column: int) -> int:
    """Say how many rows there are to select from.

    Where neither the file nor a region table says so: as many as `ref` names, and as `sel` names by number,
    since a row without children may be asked for all the same.
    """
    if regions is not None and (not isinstance(regions, _Rows) or _lies_in(sel, regions.shape[0])):
        return regions.shape[0]
    if isinstance(ref, h5py.Dataset) and (length := _length_of(ref, column)) is not None:
        return length
    found = pairs.read(0, pairs.shape[0])[:, column]
    named = int(found.max()) + 1 if len(found) else 0
    if regions is not None:
        return max(named, regions.shape[0])
    if isinstance(sel, slice):
        return named
    rows = np.asarray(sel)
    if rows.dtype == bool:
        return len(rows) if rows.ndim else named
    return max(named, int(rows.max()) + 1) if rows.size and rows.dtype.kind in "iu" else named


def _lies_in(sel: Any, length: int) -> bool:
    """Say whether a selection means the same rows, however many there are besides the first `length`."""
    if isinstance(sel, slice):
        start, stop = sel.start or 0, sel.stop
        return start == stop or (start >= 0 and stop is not None and 0 <= stop <= length)
    rows = np.asarray(sel)
    return rows.dtype.kind in "iu" and bool(((rows >= 0) & (rows < length)).all())


def _length_of(ref: h5py.Dataset, column: int) -> int | None:
    """Say how many rows the dataset has that a column is of: named by the attributes, else by where references lie."""
    path = data_of(ref, ref.name or "", column)
    found = ref.file.get(path) if path else None
    return len(found) if isinstance(found, h5py.Dataset) and found.shape else None


def _fits_half(children: Indices) -> bool:
    """Say whether row numbers take no more than half of an integer."""
    return not len(children) or (int(children.min()) >= 0 and int(children.max()) <= 0xFFFFFFFF)


def _pairs(ref: Any) -> RowSource:
    """Return references as rows of at least two columns; an empty list is none. Raises `DataMismatch`."""
    pairs = _source(ref)
    if pairs.shape == (0,):
        return _source(np.empty((0, 2), layout.ref_dtype))
    if len(pairs.shape) != 2 or pairs.shape[1] < 2:
        raise DataMismatch(f"references are pairs of row numbers, of shape (K, 2), not {pairs.shape}")
    return pairs


def _tables(sel: Any, ref: Any, region: Any, column: int) -> tuple[RowSource, RowSource | None]:
    """Return the pairs and the region table to follow.

    Of what several ranks write, a rank knows the references of a row by the region that was brought with it. So it
    looks there without a `region` as well, and finds the same.
    """
    if hasattr(ref, "lookups") and (region is None or hasattr(region, "lookups")):
        found = ref.lookups(column, not counts_from_start(sel))
        if found is not None:
            pairs, regions = found
            return pairs, regions if region is None else _source(region)
    return _pairs(ref), None if region is None else _source(region)


def _source(rows: Any) -> RowSource:
    if hasattr(rows, "read") and hasattr(rows, "take"):
        return cast(RowSource, rows)
    return _Rows(rows if isinstance(rows, h5py.Dataset) else np.asarray(rows))


class _Rows:
    """Rows of an array or an h5py dataset."""

    def __init__(self, rows: Array | h5py.Dataset) -> None:
        self._rows = rows
        self.dtype: np.dtype[Any] = rows.dtype.base
        self.shape: tuple[int, ...] = tuple(rows.shape) + rows.dtype.shape

    def has(self, row: int) -> bool:
        return row < self.shape[0]

    def read(self, start: int, stop: int, _wanted: Indices | None = None) -> Array:
        # A copy, because the caller may change what it gets.
        return np.array(self._rows[start:stop])

    def take(self, rows: Indices) -> Array:
        if len(rows) and rows[-1] >= self.shape[0]:
            rows = rows[: np.searchsorted(rows, self.shape[0])]
        if isinstance(self._rows, np.ndarray):
            return self._rows[rows]
        row_shape = self.shape[1:]
        row_bytes = max(1, self.dtype.itemsize * math.prod(row_shape))
        return take_by_pieces(self.read, rows, row_bytes, self.dtype, row_shape)
