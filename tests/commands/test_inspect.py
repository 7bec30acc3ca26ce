"""What a file tells of what is in it, and of what made it."""

from __future__ import annotations

import hashlib
import json
import re

import h5py
import numpy as np
import pytest
import yaml


def told(folder, name="out.h5"):
    done = folder.run("inspect", name, "--format", "json")
    assert done.code == 0, done
    return json.loads(done.out)


def test_datasets_and_references(reco):
    found = told(reco)["file"]
    datasets = {each["path"]: each for each in found["datasets"]}
    assert set(datasets) == {"raw", "hits", "calib", "reco/sums"}
    assert {name: each["rows"] for name, each in datasets.items()} == {
        "raw": 20,
        "hits": 20,
        "calib": 20,
        "reco/sums": 18,
    }
    assert datasets["reco/sums"]["type"] == "{id: u4, q: f4}"
    assert datasets["reco/sums"]["bytes"] == 18 * 8
    references = {(each["parent"], each["child"]): each for each in found["references"]}
    assert {pair: each["count"] for pair, each in references.items()} == {
        ("raw", "hits"): 20,
        ("hits", "calib"): 20,
        ("raw", "reco/sums"): 18,
    }
    assert references["raw", "hits"]["parents"] == 10
    assert references["raw", "hits"]["children"] == 20


def test_it_says_what_made_the_file(reco):
    report = told(reco)
    assert report["complete"] is True
    (run,) = report["runs"]
    assert run["status"] == "done"
    assert run["arguments"]["start"] == 2
    assert run["inputs"] == [{"path": "in.h5", "size": (reco.path / "in.h5").stat().st_size, **modified(run)}]
    assert run["versions"]["numpy"] == np.__version__
    assert run["versions"]["hdf5"] == h5py.version.hdf5_version
    assert run["command"][1:] == ["workflow.yaml", "-i", "in.h5", "-o", "out.h5", "-s", "2"]
    assert run["started"] < run["ended"]
    (workflow,) = run["workflows"]
    assert workflow["rows"] == 18
    assert yaml.safe_load(workflow["text"])["sum"]["params"] == {"scale": 2.5}  # what was included is there
    assert workflow["sha256"] == hashlib.sha256(workflow["text"].encode()).hexdigest()
    (stage,) = (each for each in workflow["components"] if each["role"] == "stage")
    assert stage == {
        "role": "stage",
        "key": "sum",
        "classname": "Sum",
        "module": "mine",
        "class_version": "1.2.3",
        "package_version": "7.0",
    }


def modified(run):
    return {"modified": run["inputs"][0]["modified"]}


def test_an_output_keeps_the_history_of_its_input(reco):
    reco.write("next.yaml", reco.path.joinpath("workflow.yaml").read_text().replace("sum]", "sum]"))
    done = reco.run("next.yaml", "-i", "out.h5", "-o", "second.h5", "--set", "sum.params.scale=3")
    assert done.code == 0, done
    first, second = told(reco, "second.h5")["runs"]
    assert first == told(reco)["runs"][0]
    assert second["inputs"][0]["path"] == "out.h5"
    assert yaml.safe_load(second["workflows"][0]["text"])["sum"]["params"] == {"scale": 3}


def test_a_failed_run_is_not_complete(folder):
    assert folder.run("workflow.yaml", "-i", "in.h5", "-o", "out.h5", "--set", "sum.params.fails=true").code == 1
    report = told(folder, "out.h5.partial")
    assert report["complete"] is False
    assert report["runs"][0]["status"] == "running"
    assert "NOT COMPLETE" in folder.run("inspect", "out.h5.partial").out.splitlines()[0]


def test_several_workflows_are_one_run(folder):
    folder.write("other.yaml", "flow: {source: reco/sums, stages: []}")
    done = folder.run("workflow.yaml", "other.yaml", "-i", "in.h5", "-o", "out.h5")
    assert done.code == 0, done
    (run,) = told(folder)["runs"]
    assert [(each["name"], each["status"]) for each in run["workflows"]] == [
        ("workflow.yaml", "done"),
        ("other.yaml", "done"),
    ]
    assert run["status"] == "done"


def test_text_and_diagram(reco):
    text = reco.run("inspect", "out.h5").out
    assert text.startswith("out.h5, ")
    assert ", complete" in text.splitlines()[0]
    assert re.search(r"^reco/$", text, re.M)
    assert re.search(r"^  sums +18 rows +144 B +\{id: u4, q: f4\}$", text, re.M)
    assert re.search(r"^  raw → reco/sums +18 +of 18 rows to 18$", text, re.M)
    assert re.search(r"^    stage sum +mine\.Sum +1\.2\.3$", text, re.M)
    diagram = reco.run("inspect", "out.h5", "--format", "mermaid").out.splitlines()
    assert diagram[0] == "graph LR"
    boxes = {line.split("[")[0].strip(): line.split('"')[1].split("<")[0] for line in diagram if "[" in line}
    arrows = {tuple(line.split(" -->|20| ")) for line in diagram if "|20|" in line}
    assert {(boxes[one.strip()], boxes[other]) for one, other in arrows} == {("raw", "hits"), ("hits", "calib")}


def test_files_that_were_not_made_by_us(folder):
    with h5py.File(folder.path / "odd.h5", "w") as file:
        file["plain"] = np.arange(6).reshape(2, 3)
        file["scalar"] = 3.5
        file["text"] = "some words"
        file["deep/er/data"] = np.zeros(4, "f4,i2")
        file.create_dataset("packed", data=np.zeros(1000), compression="gzip", shuffle=True)
        file["empty"] = h5py.Empty("f4")
        file["soft"] = h5py.SoftLink("/plain")
        file["gone"] = h5py.SoftLink("/nowhere")
        file["outside"] = h5py.ExternalLink("missing.h5", "/x")
        file["deep/loop"] = file["deep"]
    report = told(folder, "odd.h5")
    assert report["complete"] is None
    assert report["runs"] == []
    paths = {each["path"]: each for each in report["file"]["datasets"]}
    assert set(paths) == {"/plain", "/scalar", "/text", "deep/er", "/packed", "/empty"}
    assert paths["/packed"]["compression"] == "gzip + shuffle"
    assert paths["/scalar"]["rows"] is None
    assert sorted(link[0] for link in report["file"]["links"]) == ["gone", "outside", "soft"]
    assert folder.run("inspect", "odd.h5").code == 0


def test_what_can_not_be_read_is_said_and_the_rest_is_shown(folder):
    with h5py.File(folder.path / "odd.h5", "w") as file:
        file["whole/data"] = np.zeros(4)
        file["broken/data"] = np.zeros(4)
        h5py.h5g.create(file.create_group("group").id, b"\xff")  # no text
        # References of which only one side is said, and what is like what made a file, but for what that says.
        file["whole/ref/broken/ref"] = np.zeros((2, 2), "u4")
        file["whole/ref/broken/ref"].attrs["dset0"] = "/whole/data"
        file.create_group("h5flow/run_0001").attrs["run_id"] = "x"
        file.create_group("h5flow/run_0002").attrs.update(run_id=5, status=[1, 2], inputs="{")
        file["h5flow/run_0003"] = h5py.SoftLink("/nowhere")
        place = h5py.h5o.get_info(file["broken"].id).addr
    content = bytearray((folder.path / "odd.h5").read_bytes())
    content[place : place + 8] = b"\xff" * 8
    (folder.path / "odd.h5").write_bytes(content)
    report = told(folder, "odd.h5")
    assert {each["path"] for each in report["file"]["datasets"]} == {"whole"}
    (reference,) = report["file"]["references"]
    assert [reference[key] for key in ("parent", "child", "count", "parents")] == ["whole", "broken", 2, None]
    (broken, why), (group, _) = report["file"]["unreadable"]
    assert (broken, group) == ("broken", r"group/b'\xff'")
    assert why in folder.run("inspect", "odd.h5").out
    assert report["runs"] == []


def test_kinds_of_types_and_what_they_are_packed_with(folder):
    with h5py.File(folder.path / "odd.h5", "w") as file:
        file.create_dataset("hits", shape=3, dtype=[("ids", h5py.vlen_dtype("i4")), ("text", h5py.string_dtype())])
        file.create_dataset("to", shape=3, dtype=h5py.ref_dtype)
        file.create_dataset("part", shape=3, dtype=h5py.regionref_dtype)
        file.create_dataset("packed", data=np.arange(1000), scaleoffset=0)
    found = {each["path"]: each for each in told(folder, "odd.h5")["file"]["datasets"]}
    types = {path: each["type"] for path, each in found.items()}
    assert types == {"/hits": "{ids: i4[any], text: text}", "/to": "reference", "/part": "region", "/packed": "i8"}
    assert found["/packed"]["compression"] == "scaleoffset"


def test_names_end_no_lines(folder):
    with h5py.File(folder.path / "odd.h5", "w") as file:
        file["a\nb\x1b[31m/data"] = np.zeros(4)
    assert r"a\nb\x1b[31m" in folder.run("inspect", "odd.h5").out


@pytest.mark.parametrize("what", ["missing", "text", "cut"])
def test_what_is_no_file(reco, what):
    content = (reco.path / "out.h5").read_bytes()
    if what != "missing":
        (reco.path / "wrong.h5").write_bytes(b"no HDF5" if what == "text" else content[: len(content) // 2])
    done = reco.run("inspect", "wrong.h5")
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("h5flow-async: file 'wrong.h5' ")
    assert len(done.err.splitlines()) == 1


def test_a_long_workflow_fits(folder):
    params = {f"key {number}": "x" * 100 for number in range(2000)}
    folder.write("params.yaml", yaml.safe_dump({"scale": 1.0, **params}))
    module = (folder.path / "mine.py").read_text().replace("scale, fails", "scale, fails")
    folder.write("mine.py", module)
    done = folder.run("workflow.yaml", "-i", "in.h5", "-o", "out.h5")
    assert done.code == 0, done
    (run,) = told(folder)["runs"]
    assert len(run["workflows"][0]["text"]) > 200_000
    assert len(yaml.safe_load(run["workflows"][0]["text"])["sum"]["params"]) == 2001


def test_what_made_it_stands_beside_a_dataset_of_that_name(reco):
    reco.write(
        "same.py",
        """
        from h5flow.core import H5FlowStage
        class Same(H5FlowStage):
            def init(self, source_name):
                for name in ('h5flow', 'h5flow/run_0001', 'h5flow/run_0001/workflow_1', 'h5flow/run_0001/workflow_9'):
                    self.data_manager.create_dset(name, 'i4')
                    self.data_manager.create_ref(source_name, name)
                    self.data_manager.set_attrs(name, mine=name)
        """,
    )
    reco.write("same.yaml", "flow: {source: raw, stages: [same]}\nsame: {classname: Same, path: same}\n")
    assert reco.run("same.yaml", "-i", "in.h5", "-o", "same.h5").code == 0
    done = reco.run("inspect", "same.h5")
    assert done.code == 0, done
    assert "same.yaml, done, 1 slices, 20 rows" in done.out
    with h5py.File(reco.path / "same.h5") as file:
        assert file["h5flow/run_0001"].attrs["mine"] == "h5flow/run_0001"
    assert reco.run("rerun", "same.h5", "-o", "again.h5", "--compare").code == 0
