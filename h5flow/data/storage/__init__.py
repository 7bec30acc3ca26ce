"""Where the rows are kept: one interface, one implementation for each way a job runs."""

from h5flow.data.storage.base import Storage, StoredDataset
from h5flow.data.storage.serial import SerialStorage

__all__ = ["SerialStorage", "Storage", "StoredDataset"]
