"""The file: its layout, access by name, references."""

from h5flow.data.dereference import dereference, dereference_chain
from h5flow.data.h5flow_data_manager import H5FlowDataManager
from h5flow.data.layout import ref_region_dtype
from h5flow.data.lib import print_attr, print_data, print_ref
from h5flow.doors import doors

__all__ = [
    "H5FlowDataManager",
    "dereference",
    "dereference_chain",
    "print_attr",
    "print_data",
    "print_ref",
    "ref_region_dtype",
]

__getattr__ = doors(__name__, H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI")
