"""Fitting the values that a user writes to the type and shape of a dataset, as h5py would.

HDF5 converts numbers by rules of its own (it clips integers that don't fit, and matches the fields of
structured rows by name). Where numpy gives the same result the conversion is done here, in memory;
where it may not, `fit` says so by returning `None` and the caller lets HDF5 do it.
"""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from h5flow.errors import DataMismatch

Array = np.ndarray[Any, np.dtype[Any]]


def as_values(data: object, dtype: np.dtype[Any]) -> Array:
    """`data` as an array: an array keeps its type, anything else is read as `dtype` by numpy."""
    if isinstance(data, h5py.Dataset):
        return np.asarray(data[()])
    if isinstance(data, np.ndarray) and not (dtype.names and not data.dtype.names):
        return np.asarray(data)
    return np.asarray(data, dtype=dtype.base)


def fit(values: Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array | None:
    """`values` as `dtype`, broadcast to `shape`; `None` where only HDF5 knows how to convert.

    The result may be `values` itself or a read-only view of it. Raises `ValueError` where shapes don't fit.
    """
    converted = convert(values, dtype)
    if converted is None or converted.shape == shape:
        return converted
    while converted.ndim > len(shape) and converted.shape[0] == 1:
        converted = converted[0]
    return np.broadcast_to(converted, shape)


def convert(values: Array, dtype: np.dtype[Any]) -> Array | None:
    """`values` as `dtype`, or `None` where numpy might not give what HDF5 would."""
    if values.dtype == dtype:
        return values
    if dtype.names is not None:
        return _convert_fields(values, dtype)
    if dtype.hasobject or values.dtype.hasobject or not values.size:
        return None if dtype.hasobject or values.dtype.hasobject else values.astype(dtype)
    source, target = values.dtype.kind, dtype.kind
    if target == "S" and source == "S":
        return values.astype(dtype)
    if source not in "biuf" or target not in "iuf":
        return None
    if np.can_cast(values.dtype, dtype, "safe") or (source, target) == ("f", "f"):
        with np.errstate(over="ignore"):
            return values.astype(dtype)
    if target == "f":
        return values.astype(dtype)
    limits = np.iinfo(dtype)
    low, high = values.min(), values.max()
    # NaN compares false, so it is left to HDF5 as well.
    if low >= limits.min and high <= limits.max and (source != "f" or high < float(limits.max)):
        return values.astype(dtype)
    return None


def _convert_fields(values: Array, dtype: np.dtype[Any]) -> Array | None:
    assert dtype.names is not None
    if values.dtype.names is None or set(values.dtype.names) != set(dtype.names):
        return None
    result = np.zeros(values.shape, dtype)
    for name in dtype.names:
        # A field with a shape of its own appears in the result as further axes.
        field = result[name]
        if values[name].shape != field.shape:
            return None
        column = convert(values[name], field.dtype)
        if column is None:
            return None
        result[name] = column
    return result


def mismatch(name: str, rows: str, values: Array, dtype: np.dtype[Any], shape: tuple[int, ...]) -> DataMismatch:
    """The error for values that can't be written to `rows` of dataset `name`."""
    return DataMismatch(
        f"dataset '{name}', rows {rows}: data of shape {values.shape} and type {values.dtype}"
        f" doesn't fit shape {shape} and type {dtype}"
    )
