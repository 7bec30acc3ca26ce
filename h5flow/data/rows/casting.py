"""Fitting the values that a user writes to the type and shape of a dataset.

Where a value can't be held, HDF5 puts another one in its place (the nearest integer that fits, a text cut short) and
leaves out fields that it doesn't know; numpy wraps around. Here that is an error. What else HDF5 converts by rules of
its own is left to it: `fit` says so by returning `None`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import h5py
import numpy as np

from h5flow.errors import DataMismatch

Array = np.ndarray[Any, np.dtype[Any]]

_FEW = 32

#: Told of a field (empty where there are none), a value, and the integer that it becomes.
Cut = Callable[[str, Any, Any], None]


class Unfit(ValueError):
    """Values that a type can't hold; the message names field, value and type."""


def as_values(data: object, dtype: np.dtype[Any]) -> Array:
    """Return `data` as an array: an array keeps its type, anything else is read as numpy would for `dtype`.

    Raises `Unfit` for what isn't records where `dtype` is of records, and for numbers that no type holds.
    """
    if isinstance(data, h5py.Dataset):
        data = data[()]
    if dtype.names is not None:
        return _as_records(data, dtype)
    if isinstance(data, np.ndarray):
        return data
    base = dtype.base
    if dtype.hasobject:
        return np.asarray(data, dtype=base)
    values = np.asarray(data)
    if base.kind in "iu" and (values.dtype.kind == "O" or _may_be_rounded(values)):
        numbers = np.asarray(data, dtype=object)
        if all(isinstance(number, int | np.integer) for number in numbers.flat):
            limits = np.iinfo(base)
            _refuse(numbers, [not limits.min <= number <= limits.max for number in numbers.flat], base, "")
            return numbers.astype(base)
    if values.dtype.kind in "biufc" and base.kind in "biufc":
        return values
    if base.kind == "S" and values.dtype.kind in "biufSU":
        return values if values.dtype.kind in "SU" else values.astype("S")
    return np.asarray(data, dtype=base)


def _may_be_rounded(values: Array) -> bool:
    """Say whether numpy may have read a list of integers as floats, since some need a sign and some all 64 bits."""
    return values.dtype.kind == "f" and bool((np.abs(values) >= 2.0**53).any())


def _as_records(data: object, dtype: np.dtype[Any]) -> Array:
    assert dtype.names is not None
    first = data
    while isinstance(first, list) and first:
        first = first[0]
    if isinstance(first, np.ndarray | np.void) and first.dtype.names is not None:
        return data if isinstance(data, np.ndarray) else np.asarray(data)
    if isinstance(first, tuple) and not dtype.hasobject:
        return _of_tuples(data, dtype)
    if isinstance(first, tuple | np.void) or dtype.hasobject:
        return np.asarray(data, dtype=dtype)
    given: Any = data
    shape = np.shape(given)
    if 0 in shape:
        return np.zeros(shape, dtype)
    if shape:
        raise Unfit(
            f"data is a plain array of {np.asarray(data).dtype}, and would fill every field of a record"
            f" ({', '.join(dtype.names)}); make records of it, as in np.zeros(n, dtype=data_manager.get_dset(…).dtype)"
        )
    # One value for all fields, as numpy has it.
    return _records(dict.fromkeys(dtype.names, data), dtype, ())


def _of_tuples(data: object, dtype: np.dtype[Any]) -> Array:
    """Read records whose fields are given by position; where numpy would wrap or cut, they are read field by field."""
    assert dtype.names is not None
    records = _of_plain_tuples(data, dtype)
    if records is not None:
        return records
    given = np.array(data, dtype=[(name, "O", dtype[name].shape) for name in dtype.names])
    return _records({name: given[name].tolist() for name in dtype.names}, dtype, given.shape)


def _records(columns: Mapping[str, object], dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
    """Make records of these columns, each as `as_values` reads it for its field."""
    read: dict[str, Array] = {}
    for name, column in columns.items():
        base = dtype[name].base
        is_known = base.names is not None or base.kind in "biufcS"
        try:
            read[name] = as_values(column, base) if is_known else np.asarray(column, dtype=base)
        except Unfit as error:
            raise Unfit(f"{_in(name)}{error}") from error
    records = np.zeros(shape, [(name, values.dtype, dtype[name].shape) for name, values in read.items()])
    for name, values in read.items():
        records[name] = values
    return records


def _of_plain_tuples(data: object, dtype: np.dtype[Any]) -> Array | None:
    """Read records of numbers, as quickly as numpy makes them; `None` if any isn't as it was given."""
    assert dtype.names is not None
    kinds = [dtype[name].kind for name in dtype.names]
    rows = [data] if isinstance(data, tuple) else data
    if not set(kinds) <= set("iufb") or not isinstance(rows, list) or not isinstance(rows[0], tuple):
        return None
    try:
        records = np.asarray(data, dtype=dtype)
    except (
        OverflowError,
        DeprecationWarning,
    ):  # of numpy 2 and 1, whose values are looked at below
        return None
    for place, (name, kind) in enumerate(zip(dtype.names, kinds, strict=True)):
        if kind in "iu" and np.atleast_1d(records[name]).tolist() != [row[place] for row in rows]:
            return None
    return records


def fit(values: Array, dtype: np.dtype[Any], shape: tuple[int, ...], cut: Cut | None = None) -> Array | None:
    """Return `values` as `dtype`, broadcast to `shape`; `None` where only HDF5 knows how to convert.

    The result may be `values` itself or a read-only view of it. `cut` is told of the first fraction that an integer
    field loses. Raises `Unfit` for values that the type can't hold, and `ValueError` where shapes don't fit.
    """
    converted = convert(values, dtype, cut)
    if converted is None or converted.shape == shape:
        return converted
    while converted.ndim > len(shape) and converted.shape[0] == 1:
        converted = converted[0]
    return np.broadcast_to(converted, shape)


def convert(values: Array, dtype: np.dtype[Any], cut: Cut | None = None, field: str = "") -> Array | None:
    """Return `values` as `dtype`, or `None` where only HDF5 knows how to convert. Raises `Unfit`.

    Of masked arrays it counts only what isn't masked; what is lies in the file as HDF5 converts it.
    """
    plain = values if type(values) is np.ndarray else np.ma.getdata(values)
    if plain.dtype == dtype:
        return plain
    if dtype.names is not None:
        return _convert_fields(values, dtype, cut, field)
    if dtype.hasobject or plain.dtype.hasobject:
        return None
    if not plain.size:
        return plain.astype(dtype)
    source, target = plain.dtype.kind, dtype.kind
    if target == "S":
        return _convert_text(values, dtype, field)
    if source == "c" and target in "biuf":
        raise Unfit(f"{_in(field)}{plain.flat[0]} is complex, type {dtype} isn't: take its .real, or abs() of it")
    if source not in "biufc" or target not in "biufc":
        return None
    if target not in "iu" or np.can_cast(plain.dtype, dtype, "safe"):
        with np.errstate(over="ignore"):
            return plain.astype(dtype)
    if _in_range(plain, dtype):
        converted = plain.astype(dtype)
        if cut is not None and source == "f":
            _look_for_fractions(values, converted, cut, field)
        return converted
    _refuse(plain, _out_of_range(plain, dtype) & ~np.ma.getmaskarray(values), dtype, field)
    return None


def check_fields(source: np.dtype[Any], dtype: np.dtype[Any], field: str = "") -> None:
    """Raise `Unfit` if records of one type have other fields than those of another one."""
    given, wanted = source.names or (), dtype.names or ()
    if set(given) != set(wanted):
        unknown = [name for name in given if name not in wanted]
        missing = [name for name in wanted if name not in given]
        parts = [f"the dataset has no field '{name}'" for name in unknown]
        parts += [f"data has no field '{name}'" for name in missing]
        raise Unfit(f"{_in(field)}{', '.join(parts)} (data: {', '.join(given)}; dataset: {', '.join(wanted)})")


def _convert_fields(values: Array, dtype: np.dtype[Any], cut: Cut | None, outer: str) -> Array | None:
    assert dtype.names is not None
    if values.dtype.names is None:
        return None
    check_fields(values.dtype, dtype, outer)
    result = np.zeros(values.shape, dtype)
    for name in dtype.names:
        # A field with a shape of its own appears in the result as further axes.
        field = result[name]
        if values[name].shape != field.shape:
            return None
        column = convert(values[name], field.dtype, cut, f"{outer}.{name}" if outer else name)
        if column is None:
            return None
        result[name] = column
    return result


def _convert_text(values: Array, dtype: np.dtype[Any], field: str) -> Array | None:
    """Convert texts to bytes of a fixed length."""
    plain = np.ma.getdata(values)
    if plain.dtype.kind in "biufc":
        raise Unfit(f"{_in(field)}{plain.flat[0]} is no text, which type {dtype} holds: take .astype('S')")
    if plain.dtype.kind == "U":
        info = h5py.check_string_dtype(dtype)
        encoding = "ascii" if info is None else info.encoding
        try:
            plain = np.char.encode(plain, encoding)
        except UnicodeEncodeError as error:
            raise Unfit(
                f"{_in(field)}{str(error.object)!r} isn't {encoding}, which the dataset holds: encode it"
            ) from error
    if plain.dtype.kind != "S":
        return None
    if plain.dtype.itemsize > dtype.itemsize:
        _refuse(plain, (np.char.str_len(plain) > dtype.itemsize) & ~np.ma.getmaskarray(values), dtype, field)
    return plain.astype(dtype)


def _in_range(values: Array, dtype: np.dtype[Any]) -> bool:
    """Say whether integers of a type can hold all values, cut to whole numbers; NaN compares false."""
    limits = np.iinfo(dtype)
    if values.dtype.kind != "f":
        # Of a few values Python finds the least and the largest sooner than numpy.
        few = values.ravel().tolist() if values.size <= _FEW else None
        low, high = (values.min(), values.max()) if few is None else (min(few), max(few))
        return bool(low >= limits.min and high <= limits.max)
    low, high = float(values.min()), float(values.max())
    # Between the largest 64-bit integer and the next power of two there is no other float.
    return (low >= limits.min or low > limits.min - 1) and high < limits.max + 1


def _out_of_range(values: Array, dtype: np.dtype[Any]) -> Array:
    limits = np.iinfo(dtype)
    if values.dtype.kind != "f":
        return np.array([not limits.min <= value <= limits.max for value in values.ravel().tolist()]).reshape(
            values.shape
        )
    wide = values.astype("f8") if values.dtype.itemsize < 8 else values
    below = (wide < limits.min) & (wide <= float(limits.min) - 1)
    return below | ~(wide < float(limits.max) + 1)


def _look_for_fractions(values: Array, converted: Array, cut: Cut, field: str) -> None:
    lost = (converted != np.ma.getdata(values)) & ~np.ma.getmaskarray(values)
    if lost.any():
        at = int(np.argmax(lost))
        cut(field, np.ma.getdata(values).flat[at], converted.flat[at])


def _refuse(values: Array, unfit: Any, dtype: np.dtype[Any], field: str) -> None:
    """Raise `Unfit` with the first value that a type can't hold, if there is any."""
    if not np.any(unfit):
        return
    at = int(np.argmax(np.ravel(unfit)))
    value = values.flat[at]
    place = ", ".join(str(number) for number in np.unravel_index(at, values.shape))
    entry = f" (entry {place})" if place else ""
    if dtype.kind == "S":
        holds = f"has {len(value)} bytes, type {dtype} holds {dtype.itemsize}"
        raise Unfit(f"{_in(field)}{_shown(value)}{entry} {holds}")
    limits = np.iinfo(dtype)
    raise Unfit(f"{_in(field)}{value}{entry} doesn't fit type {dtype}, which holds {limits.min} to {limits.max}")


def _shown(value: bytes) -> str:
    return repr(bytes(value)) if len(value) <= 40 else f"{bytes(value[:39])!r}…"


def _in(field: str) -> str:
    return f"field '{field}': " if field else ""


def mismatch(name: str, rows: str, values: Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> DataMismatch:
    """Return the error for values that can't be written to `rows` of dataset `name`."""
    return DataMismatch(
        f"dataset '{name}', rows {rows}: data of shape {values.shape} and type {values.dtype}"
        f" doesn't fit shape {shape} and type {dtype}"
    )
