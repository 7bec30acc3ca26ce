"""All that users of the existing `h5flow` rely on by name: imports, parameters, attributes, calls by hand."""

from __future__ import annotations

import importlib
import inspect
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest
import yaml

import h5flow
from h5flow.core import H5FlowGenerator, H5FlowManager, H5FlowResource, H5FlowStage
from h5flow.data import H5FlowDataManager, dereference, dereference_chain, ref_region_dtype

CORE = "H5FlowManager H5FlowGenerator H5FlowStage H5FlowResource resources"
DATA = "H5FlowDataManager dereference dereference_chain ref_region_dtype print_ref print_data print_attr"

#: Module: what can be imported from it.
NAMES = {
    "h5flow": "run H5FLOW_MPI resources main H5FlowManager core data modules",
    "h5flow.core": f"{CORE} H5FLOW_MPI comm rank size get_class H5FlowDataManager dereference_chain",
    "h5flow.core.h5_flow_manager": "H5FlowManager H5FLOW_MPI",
    "h5flow.core.h5_flow_generator": "H5FlowGenerator H5FLOW_MPI",
    "h5flow.core.h5_flow_stage": "H5FlowStage H5FLOW_MPI",
    "h5flow.core.h5_flow_resource": "H5FlowResource H5FLOW_MPI resources",
    "h5flow.data": f"{DATA} H5FLOW_MPI",
    "h5flow.data.h5flow_data_manager": f"{DATA} H5FLOW_MPI",
    "h5flow.data.lib": f"{DATA} H5FLOW_MPI",
    "h5flow.modules": (
        "H5FlowDatasetLoopGenerator H5FlowTestStage get_class find_class H5FlowGenerator H5FlowStage H5FLOW_MPI"
    ),
    "h5flow.modules.h5_flow_dataset_loop_generator": "H5FlowDatasetLoopGenerator H5FLOW_MPI",
    "h5flow.modules.h5_flow_test_stage": "H5FlowTestStage H5FLOW_MPI",
}

CONFIGURE = "self config input_filename start_position end_position"
JOINED = "self parent_dataset_name child_dataset_name"

#: Call: its parameters in order, with their defaults; `…` stands for some of our own behind them.
SIGNATURES = {
    "h5flow:run": "configs output_filename input_filename=None start_position=None end_position=None verbose=0"
    " drop=None nompi=False compression=None …",
    "h5flow.core:H5FlowManager": "config output_filename input_filename=None start_position=None end_position=None"
    " compression=None …",
    "h5flow.core:H5FlowManager.configure_data_manager": "self output_filename config",
    "h5flow.core:H5FlowManager.configure_flow": "self config",
    "h5flow.core:H5FlowManager.configure_generator": "self input_filename config start_position end_position",
    "h5flow.core:H5FlowManager.configure_resources": CONFIGURE,
    "h5flow.core:H5FlowManager.format_requirements": "self requirements",
    "h5flow.core:H5FlowManager.load_requirement": "self req source_name source_slice",
    "h5flow.core:H5FlowManager.update_cache": "self cache source_name source_slice requirements",
    "h5flow.core:H5FlowManager.init": "self",
    "h5flow.core:H5FlowManager.run": "self",
    "h5flow.core:H5FlowManager.finish": "self",
    "h5flow.core:H5FlowGenerator": "classname dset_name data_manager input_filename=None start_position=None"
    " end_position=None **params",
    "h5flow.core:H5FlowGenerator.init": "self",
    "h5flow.core:H5FlowGenerator.next": "self",
    "h5flow.core:H5FlowGenerator.finish": "self",
    "h5flow.core:H5FlowStage": "name classname data_manager requires=None **params",
    "h5flow.core:H5FlowStage.init": "self source_name",
    "h5flow.core:H5FlowStage.run": "self source_name source_slice cache",
    "h5flow.core:H5FlowStage.finish": "self source_name",
    "h5flow.core:H5FlowResource": "classname data_manager input_filename=None start_position=None end_position=None"
    " **params",
    "h5flow.core:H5FlowResource.init": "self source_name",
    "h5flow.core:H5FlowResource.finish": "self source_name",
    "h5flow.data:H5FlowDataManager": "filepath mode='a' mpi=None drop_list=None compression=None …",
    "h5flow.data:H5FlowDataManager.create_dset": "self dataset_name dtype shape=()",
    "h5flow.data:H5FlowDataManager.create_ref": JOINED,
    "h5flow.data:H5FlowDataManager.get_attrs": "self name",
    "h5flow.data:H5FlowDataManager.attr_exists": "self name key",
    "h5flow.data:H5FlowDataManager.exists": "self path",
    "h5flow.data:H5FlowDataManager.dset_exists": "self dataset_name",
    "h5flow.data:H5FlowDataManager.ref_exists": JOINED,
    "h5flow.data:H5FlowDataManager.ref_region_exists": JOINED,
    "h5flow.data:H5FlowDataManager.get_dset": "self dataset_name",
    "h5flow.data:H5FlowDataManager.get_ref": JOINED,
    "h5flow.data:H5FlowDataManager.get_refs": "self dataset_name",
    "h5flow.data:H5FlowDataManager.get_ref_region": JOINED,
    "h5flow.data:H5FlowDataManager.reserve_data": "self dataset_name spec",
    "h5flow.data:H5FlowDataManager.write_data": "self dataset_name spec data",
    "h5flow.data:H5FlowDataManager.write_ref": f"{JOINED} refs",
    "h5flow.data:H5FlowDataManager.delete": "self name",
    "h5flow.data:H5FlowDataManager.close_file": "self",
    "h5flow.data:H5FlowDataManager.finish": "self",
    "h5flow.data:dereference": "sel ref data=None region=None mask=None ref_direction=(0, 1) indices_only=False"
    " as_masked=True",
    "h5flow.data:dereference_chain": "sel refs data=None regions=None mask=None ref_directions=None indices_only=False",
    "h5flow.data:print_ref": "grp",
    "h5flow.data:print_data": "grp",
    "h5flow.data:print_attr": "grp",
    "h5flow.modules:get_class": "classname path=None",
    "h5flow.modules:find_class": "classname directory",
}


def found(place):
    module, _, path = place.partition(":")
    value = importlib.import_module(module)
    for name in path.split("."):
        value = getattr(value, name)
    return value


def shown(signature):
    parts, own = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY:
            own = True
            continue
        default = "" if parameter.default is parameter.empty else f"={parameter.default!r}"
        parts.append(f"{'**' if parameter.kind is parameter.VAR_KEYWORD else ''}{parameter.name}{default}")
    return " ".join([*parts, "…"] if own else parts)


class TestImports:
    @pytest.mark.parametrize(("module", "name"), [(m, name) for m, names in NAMES.items() for name in names.split()])
    def test_what_can_be_imported(self, module, name):
        value = getattr(importlib.import_module(module), name)
        if name == "H5FLOW_MPI":
            assert value is h5flow.H5FLOW_MPI
        elif name == "resources":
            assert value is h5flow.core.resources
        elif name.startswith("H5Flow"):
            assert inspect.isclass(value)
            assert value.__name__ == name

    @pytest.mark.parametrize("module", NAMES)
    def test_what_can_not(self, module):
        with pytest.raises(ImportError, match="cannot import name 'nonsense'"):
            exec(f"from {module} import nonsense")
        assert not hasattr(importlib.import_module(module), "nonsense")

    def test_no_door_leads_far_before_it_is_opened(self):
        code = (
            "import sys, h5flow.core, h5flow.modules, h5flow.data\n"
            "assert not {'mpi4py', 'h5flow.cli', 'h5flow.jobs.job'} & set(sys.modules)\n"
            "from h5flow.core import H5FLOW_MPI, comm, rank, size\n"
            "print(H5FLOW_MPI, comm is None, rank, size, 'mpi4py' in sys.modules)\n"
            "import os; os.environ.pop('H5FLOW_NOMPI', None)\n"
            "from h5flow.core.h5_flow_stage import H5FLOW_MPI\n"
            "print(H5FLOW_MPI)\n"
        )
        environment = {**os.environ, "H5FLOW_NOMPI": "1"}
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
        assert done.stdout.splitlines() == ["False True 0 1 False", "False"], done.stderr

    @pytest.mark.parametrize("path", ["h5flow.modules.h5_flow_dataset_loop_generator", "h5flow.modules", None])
    def test_built_in_classes_have_several_paths(self, path):
        found = h5flow.modules.get_class("H5FlowDatasetLoopGenerator", path)
        assert found is h5flow.modules.H5FlowDatasetLoopGenerator


class TestSignatures:
    @pytest.mark.parametrize(("place", "parameters"), SIGNATURES.items())
    def test_parameters(self, place, parameters):
        own = parameters.removesuffix(" …")
        assert shown(inspect.signature(found(place))).removesuffix(" …").startswith(own)
        if not parameters.endswith("…"):
            assert shown(inspect.signature(found(place))) == parameters

    @pytest.mark.parametrize(
        "part", ["copy", "setup_slices", "__len__", "init", "next", "finish", "__iter__", "__next__"]
    )
    def test_parts_of_the_loop_generator(self, part):
        assert callable(getattr(h5flow.modules.H5FlowDatasetLoopGenerator, part))


class TestTheDataManager:
    def test_has_attributes(self, tmp_path):
        path = str(tmp_path / "out.h5")
        with H5FlowDataManager(path, "a", False, ["x"], "gzip") as dm:
            assert (dm.filepath, dm.mode, dm.mpi_flag, dm.drop_list, dm.compression) == (
                path,
                "a",
                False,
                ["x"],
                "gzip",
            )
            assert (dm.comm, dm.rank, dm.size) == (None, 0, 1)
            assert isinstance(dm.fh, h5py.File)
            assert all(str(part) in repr(dm) for part in (path, "a", False, ["x"]))

    def test_takes_all_by_keyword(self, tmp_path):
        with H5FlowDataManager(filepath=str(tmp_path / "out.h5"), mode="a", mpi=False) as dm:
            for name in ("A", "B", "C"):
                dm.create_dset(dataset_name=name, dtype="i4", shape=())
                rows = dm.reserve_data(dataset_name=name, spec=3)
                dm.write_data(dataset_name=name, spec=rows, data=[1, 2, 3])
                assert dm.dset_exists(dataset_name=name)
            for parent, child in (("A", "B"), ("B", "C")):
                pair = {"parent_dataset_name": parent, "child_dataset_name": child}
                dm.create_ref(**pair)
                dm.write_ref(**pair, refs=[(0, 1)])
                assert dm.ref_exists(**pair)
                assert dm.ref_region_exists(**pair)
                assert dm.get_ref(**pair)[1] == (0, 1)
                assert len(dm.get_ref_region(**pair)) == 3
            dm.set_attrs(name="A", x=1)
            dm.set_attrs("B", name="an attribute")
            assert dm.attr_exists(name="A", key="x")
            assert dm.get_attrs(name="B")["name"] == "an attribute"
            assert len(dm.get_refs(dataset_name="B")) == 2
            assert dm.exists(path="A/data")
            dm.delete(name="C")
            assert not dm.dset_exists("C")

    def test_finds_by_tuples_and_lists(self, tmp_path):
        with H5FlowDataManager(str(tmp_path / "out.h5")) as dm:
            for name in ("A", "B"):
                dm.create_dset(name, "i4")
                dm.reserve_data(name, 3)
                dm.write_data(name, slice(None), [1, 2, 3])
            dm.create_ref("A", "B")
            dm.write_ref("A", "B", [(0, 1), (0, 2), (2, 0)])
            assert isinstance(dm[("A",)], h5py.Dataset)
            assert isinstance(dm[["A"]], h5py.Dataset)
            assert dm[("A",)][:].tolist() == [1, 2, 3]
            wanted = [[2, 3], [None, None], [1, None]]
            assert dm[["A", "B", slice(0, 3)]].tolist() == dm[["A", "B"]].tolist() == dm["A", "B"].tolist() == wanted
            assert dm[["A", [2, 0]]].tolist() == [3, 1]
            assert dm[(*["A", "B"], [2])].compressed().tolist() == [1]

    def test_deletes_what_is_not_there(self, tmp_path):
        with H5FlowDataManager(str(tmp_path / "out.h5")) as dm:
            dm.create_dset("A", "i4")
            for name in ("nope", "A/nope", "/nope/", "nope/data", "A/data/nope"):
                dm.delete(name)
            assert dm.dset_exists("A")


class TestComponentsByHand:
    class Fake:
        """What a unit test of users' may give instead of a data manager."""

        def create_dset(self, *_, **__):
            pass

    @pytest.mark.parametrize("data_manager", [None, Fake()])
    def test_without_a_data_manager(self, data_manager):
        class Three(H5FlowGenerator):
            done = 0

            def next(self):
                super().init()
                self.done += 1
                return slice(self.done, self.done + 1) if self.done <= 3 else self.EMPTY

        generator = Three(classname="Three", dset_name="x", data_manager=data_manager, anything=5)
        stage = H5FlowStage("s", "H5FlowStage", data_manager)
        resource = H5FlowResource(classname="R", data_manager=data_manager, input_filename="in.h5", start_position=2)
        for component in (generator, stage, resource):
            assert (component.rank, component.size, component.comm) == (0, 1, None)
            assert component.data_manager is data_manager
            assert component.class_version == "0.0.0"
        assert (generator.classname, generator.dset_name, stage.name, stage.requires) == ("Three", "x", "s", [])
        assert (resource.input_filename, resource.start_position, resource.end_position) == ("in.h5", 2, None)
        assert list(generator) == [slice(1, 2), slice(2, 3), slice(3, 4)]
        assert slice(-1, -1) == H5FlowGenerator.EMPTY
        generator.init()
        generator.finish()
        stage.init("x")
        stage.run("x", slice(0, 1), {})
        stage.finish("x")
        resource.init("x")
        resource.finish("x")


class TestTheManager:
    def config(self):
        return yaml.safe_load("""
            flow: {source: numbers, stages: [test], drop: [scratch]}
            resources: [{classname: Calibration, path: parts}]
            numbers: {classname: Numbers, path: parts, dset_name: n}
            test: {classname: H5FlowTestStage, path: h5flow.modules.h5_flow_test_stage, requires: [n]}
        """)

    @pytest.fixture(autouse=True)
    def parts(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "parts.py").write_text(
            "from h5flow.core import *\n"
            "class Calibration(H5FlowResource): pass\n"
            "class Numbers(H5FlowGenerator):\n"
            "    def init(self):\n"
            "        self.data_manager.create_dset(self.dset_name, 'i8')\n"
            "    def next(self):\n"
            "        if self.start_position >= self.end_position: return self.EMPTY\n"
            "        self.start_position += 1\n"
            "        return self.data_manager.reserve_data(self.dset_name, 2)\n"
        )
        yield
        sys.modules.pop("parts", None)

    def test_by_position_and_its_attributes(self):
        manager = H5FlowManager(self.config(), "out.h5", None, 2, 5, "gzip")
        assert (manager.rank, manager.size, manager.drop_list) == (0, 1, ["scratch"])
        assert manager.comm is manager.data_manager.comm
        assert isinstance(manager.data_manager, H5FlowDataManager)
        assert (type(manager.generator).__name__, [stage.name for stage in manager.stages]) == ("Numbers", ["test"])
        assert set(h5flow.resources) == {"Calibration"}
        manager.init()
        manager.run()
        manager.finish()
        with h5py.File("out.h5") as file:
            assert len(file["n/data"]) == 6
            assert file["n/data"].compression == "gzip"

    def test_requirements_by_hand(self):
        manager = H5FlowManager(self.config(), "out.h5", start_position=0, end_position=1)
        manager.init()
        manager.run()
        wanted = [
            {"name": "n", "path": ["n"], "index_only": False},
            {"name": "i", "path": ["n"], "index_only": True},
        ]
        found = manager.format_requirements(["n", {"name": "i", "path": "n", "index_only": True}])
        assert found == wanted
        assert manager.load_requirement(found[1], "n", slice(0, 2)).tolist() == [0, 1]
        cache = {"i": "kept"}
        manager.update_cache(cache, "n", slice(0, 2), found)
        assert cache["n"].tolist() == [0, 0]
        assert cache["i"] == "kept"
        manager.finish()


def test_the_type_of_a_region():
    assert ref_region_dtype == np.dtype([("start", "i4"), ("stop", "i4")])
    assert dereference([0], [(0, 0)], ["x"]).tolist() == [["x"]]
    assert dereference_chain([0], [[(0, 1)], [(1, 2)]]).tolist() == [[[2]]]


@pytest.mark.parametrize("name", [name for name in NAMES if name.count(".") > 1])
def test_modules_are_attributes_of_packages_that_are_imported(name):
    """Whatever else has been imported."""
    subprocess.run([sys.executable, "-c", f"import h5flow; {name}; assert not hasattr({name}, 'nope')"], check=True)
