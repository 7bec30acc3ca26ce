"""What links to other files lead to is read; what is added to it lies in the file itself."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

from h5flow.data import H5FlowDataManager, print_ref
from h5flow.errors import FileError, NotInFile


@pytest.fixture(params=["earliest", "latest"])
def linked(tmp_path, request):
    """A file with links to another one, which has references; that must stay as it is, byte for byte."""
    other = tmp_path / "other.h5"
    with h5py.File(other, "w", libver=request.param) as file:
        with H5FlowDataManager(str(tmp_path / "made.h5")) as dm:
            for name in ("A", "C"):
                dm.create_dset(name, "i8")
                dm.reserve_data(name, 6)
                dm.write_data(name, slice(None), np.arange(6) * 10)
            dm.create_ref("A", "C")
            dm.write_ref("A", "C", [(0, 1), (3, 2), (0, 5)])
            dm.set_attrs("A", unit="mm", numbers=[1, 2])
        with h5py.File(tmp_path / "made.h5") as made:
            for name in made:
                made.copy(name, file)
        file["A/deeper/data"] = np.arange(3)
    with h5py.File(tmp_path / "main.h5", "w") as file:
        file["ext"] = h5py.ExternalLink("other.h5", "/A")
        file["in/soft"] = h5py.SoftLink("/ext")
        file["A"] = h5py.ExternalLink("other.h5", "/A")
        file["C"] = h5py.ExternalLink("other.h5", "/C")
        file["own/data"] = h5py.ExternalLink("other.h5", "/A/data")
        file.create_dataset("B/data", data=np.arange(4), maxshape=(None,), chunks=(4,))
    before, when = other.read_bytes(), other.stat().st_mtime_ns
    yield str(tmp_path / "main.h5")
    assert other.read_bytes() == before
    assert other.stat().st_mtime_ns == when


NAMES = ["ext", "in/soft", "A", "own"]
GROUPS = NAMES[:3]


@pytest.mark.parametrize("name", NAMES)
class TestADatasetOfAnotherFile:
    @pytest.mark.parametrize("mode", ["r", "a"])
    def test_is_read(self, linked, name, mode):
        with H5FlowDataManager(linked, mode) as dm:
            assert dm.dset_exists(name)
            assert dm.exists(f"{name}/data")
            assert dm[name, 2:4].tolist() == dm.get_dset(name)[2:4].tolist() == [20, 30]
            assert dm.get_dset(name).file["/A/data"][:].tolist() == dm[name, :].tolist()
            assert dm.fh[f"{name}/data"][1] == 10

    def test_does_not_grow_and_is_not_written(self, linked, name):
        with H5FlowDataManager(linked) as dm:
            for call, rest in (
                (lambda: dm.reserve_data(name, 2), "can't grow"),
                (lambda: dm.reserve_data(name, slice(0, 9)), "can't grow"),
                (lambda: dm.write_data(name, slice(0, 2), 5), "rows are only read"),
                (lambda: dm.write_data(name, [1], 5), "rows are only read"),
                (lambda: dm.get_dset(name).__setitem__(0, 5), "rows are only read"),
                (lambda: dm.get_dset(name).resize((9,)), "rows are only read"),
            ):
                says = rf"'/{name}/data' of file '.*main.h5' is a link to file '.*other.h5', where .*{rest}"
                with pytest.raises(FileError, match=says):
                    call()
            assert dm.reserve_data(name, 0) == slice(6, 6)
            assert dm[name, :].tolist() == [0, 10, 20, 30, 40, 50]

    def test_takes_references(self, linked, name):
        pairs = [(1, 2), (5, 0), (1, 1)]
        with H5FlowDataManager(linked) as dm:
            dm.create_ref(name, "B")
            dm.write_ref("B", name, [pair[::-1] for pair in pairs])
            wanted = [[], [1, 2], [], [], [], [0]]
            assert [row.compressed().tolist() for row in dm[name, "B", :]] == wanted
        with h5py.File(linked) as file, H5FlowDataManager(linked, "r") as dm:
            assert file[f"{name}/ref/B/ref"].file.filename == linked
            assert file[f"{name}/ref/B/ref"][:].tolist() == [list(pair) for pair in pairs]
            assert len(file[f"{name}/ref/B/ref_region"]) == 6
            assert [row.compressed().tolist() for row in dm[name, "B", :]] == wanted
            assert dm["B", name, 0].compressed().tolist() == [50]
            assert dm[name, :].tolist() == [0, 10, 20, 30, 40, 50]

    def test_takes_attributes(self, linked, name):
        with H5FlowDataManager(linked) as dm:
            dm.set_attrs(name, made_by="me")
            assert dm.get_attrs(name)["made_by"] == "me"
        with h5py.File(linked) as file:
            assert file[name].file.filename == linked
            found = {key: np.asarray(value).tolist() for key, value in file[name].attrs.items()}
        kept = {} if name == "own" else {"unit": "mm", "numbers": [1, 2]}
        assert found == {**kept, "made_by": "me"}

    def test_is_deleted(self, linked, name):
        with H5FlowDataManager(linked) as dm:
            dm.create_ref(name, "B")
            dm.delete(name)
            assert not dm.exists(name)
            assert not dm.ref_exists("B", name)
        with h5py.File(linked) as file:
            assert name not in file
            assert "ref" not in file["B"]

    def test_is_deleted_but_for_its_group(self, linked, name):
        with H5FlowDataManager(linked) as dm:
            dm.delete(f"{name}/data")
            assert not dm.dset_exists(name)
            assert dm.exists(name)

    def test_is_dropped(self, linked, name):
        with H5FlowDataManager(linked, drop_list=[name]) as dm:
            assert dm[name, 1].tolist() == [10]
        with h5py.File(linked) as file:
            assert name not in file


@pytest.mark.parametrize("name", GROUPS)
class TestAGroupOfAnotherFile:
    def test_gets_datasets(self, linked, name):
        with H5FlowDataManager(linked) as dm:
            dm.create_dset(f"{name}/new", "i4")
            dm.reserve_data(f"{name}/new", 2)
            dm.create_dset(f"{name}/deeper/new", "i4")
            assert dm[f"{name}/deeper", :].tolist() == [0, 1, 2]
        with h5py.File(linked) as file:
            assert file[f"{name}/new/data"][:].tolist() == [0, 0]
            assert {one.file.filename for one in (file[f"{name}/new"], file[f"{name}/deeper/new"])} == {linked}
            assert file[f"{name}/deeper/data"][:].tolist() == [0, 1, 2]

    def test_is_changed_by_h5py(self, linked, name):
        with H5FlowDataManager(linked) as dm:
            file = dm.fh
            with pytest.raises((OSError, RuntimeError, ValueError, KeyError)):
                file[name].create_group("in the other file")
            file.create_group(f"{name}/new")
            file[f"{name}/deeper/value"] = 5
            del file[f"{name}/data"]
            assert sorted(file[name]) == ["deeper", "new", "ref"]
            assert f"{name}/deeper/data" in file

    def test_its_references(self, linked, name):
        with H5FlowDataManager(linked) as dm:
            wanted = [[10, 50], [], [], [20], [], []]
            assert [row.compressed().tolist() for row in dm[name, "C", :]] == wanted
            with pytest.raises(FileError, match=r"other.h5', where rows are only read"):
                dm.write_ref(name, "C", [(0, 0)])
            assert [row.compressed().tolist() for row in dm[name, "C", :]] == wanted
            dm.delete(f"{name}/ref/C")
            assert not dm.ref_exists(name, "C")


def test_references_to_what_is_called_alike_but_is_another_dataset(linked):
    with h5py.File(linked, "r+") as file:
        del file["C"]
        file["C/data"] = np.arange(100)
    with H5FlowDataManager(linked) as dm:
        assert not dm.ref_exists("A", "C")
        with pytest.raises(NotInFile):
            _ = dm["A", "C", :]


def test_what_leads_nowhere(linked, capsys):
    with h5py.File(linked, "r+") as file:
        file["gone"] = h5py.ExternalLink("nowhere.h5", "/A")
        file["lost"] = h5py.ExternalLink("other.h5", "/nowhere")
    with H5FlowDataManager(linked) as dm:
        for name in ("gone", "lost"):
            assert not dm.exists(name)
            assert not dm.dset_exists(name)
            dm.delete(f"{name}/data")
        print_ref(dm.fh)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["virtual", "raw"])
def test_rows_that_lie_in_other_files_are_not_written(tmp_path, monkeypatch, kind, caplog):
    monkeypatch.chdir(tmp_path)
    with h5py.File("other.h5", "w") as file:
        file["x"] = np.arange(6)
    np.arange(6).tofile("rows.raw")
    with h5py.File("main.h5", "w") as file:
        sheet = h5py.VirtualLayout((6,), "i8")
        sheet[:] = h5py.VirtualSource("other.h5", "x", (6,))
        file.create_virtual_dataset("virtual/data", sheet, fillvalue=-1)
        file.create_dataset("raw/data", (6,), "i8", external=[("rows.raw", 0, 6 * 8)])
    name = {"virtual": "other.h5", "raw": "rows.raw"}[kind]
    before = (tmp_path / name).read_bytes()
    with H5FlowDataManager("main.h5") as dm:
        assert dm[kind, :].tolist() == [0, 1, 2, 3, 4, 5]
        says = rf"rows of '/{kind}/data' of file 'main.h5' are in file '{name}'"
        for call in (lambda: dm.write_data(kind, slice(0, 1), 5), lambda: dm.reserve_data(kind, 1)):
            with pytest.raises(FileError, match=says):
                call()
        with pytest.raises(FileError, match=says):
            dm.get_dset(kind)[0] = 5
        dm.create_dset("B", "i4")
        dm.create_ref(kind, "B")
        dm.set_attrs(kind, x=1)
    assert (tmp_path / name).read_bytes() == before
    assert not caplog.messages
    (tmp_path / name).unlink()
    if kind == "virtual":
        with H5FlowDataManager("main.h5", "r") as dm:
            assert dm[kind, :].tolist() == [-1] * 6
        assert caplog.messages == [
            "rows of '/virtual/data' of file 'main.h5' are in file 'other.h5', which isn't there: they read as the fill"
            " value"
        ]
