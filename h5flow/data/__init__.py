"""The file: its layout, access by name, references."""

from typing import TYPE_CHECKING

from h5flow.lazy import on_first_use

if TYPE_CHECKING:
    from h5flow.data.h5flow_data_manager import H5FlowDataManager
    from h5flow.data.layout import ref_region_dtype
    from h5flow.data.lib import print_attr, print_data, print_ref
    from h5flow.data.references.dereference import dereference, dereference_chain

__all__ = [
    "H5FlowDataManager",
    "dereference",
    "dereference_chain",
    "print_attr",
    "print_data",
    "print_ref",
    "ref_region_dtype",
]

__getattr__ = on_first_use(
    __name__,
    H5FlowDataManager="h5flow.data.h5flow_data_manager:H5FlowDataManager",
    dereference="h5flow.data.references.dereference:dereference",
    dereference_chain="h5flow.data.references.dereference:dereference_chain",
    print_attr="h5flow.data.lib:print_attr",
    print_data="h5flow.data.lib:print_data",
    print_ref="h5flow.data.lib:print_ref",
    ref_region_dtype="h5flow.data.layout:ref_region_dtype",
    H5FLOW_MPI="h5flow.mpi:H5FLOW_MPI",
)
