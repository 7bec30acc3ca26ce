"""What workflows are given to begin with: the name of the input, positions."""

from __future__ import annotations

import shutil

import pytest

import h5flow
from h5flow.errors import UsageError

STAGE = """
    from h5flow.core import H5FlowStage, H5FlowResource, resources
    class Name(H5FlowResource):
        def init(self, source_name):
            self.data_manager.set_attrs('names', **{f'resource{len(self.data_manager.get_attrs("raw"))}':
                                                    self.input_filename})
            self.data_manager.set_attrs('raw', seen=self.input_filename)
    class Tag(H5FlowStage):
        def run(self, source_name, source_slice, cache):
            assert resources['Name'].input_filename.endswith('.h5')
            assert len(cache[source_name]) == 20
"""

FLOW = """
    flow: {source: raw, stages: [tag]}
    resources: [{classname: Name}]
    tag: {classname: Tag}
"""


class TestTheInputOfLaterWorkflows:
    @pytest.mark.parametrize("mode", ["sequential", "pipelined"])
    @pytest.mark.parametrize("output", ["out.h5", "./results/out.h5"])
    def test_is_called_as_the_output_will_be(self, folder, output, mode):
        folder.input()
        folder.write("stage.py", STAGE)
        folder.write("one.yaml", FLOW)
        (folder.path / "results").mkdir()
        done = folder.run("one.yaml", "one.yaml", "-i", "in.h5", "-o", output, "--set", f"runtime.mode={mode}")
        assert (done.code, done.err.count("Traceback")) == (0, 0), done.err
        with h5flow.data.H5FlowDataManager(output, "r") as dm:
            assert dm.get_attrs("names") == {"resource0": "in.h5", "resource1": output}

    def test_is_the_file_that_is_being_written_not_an_older_output(self, folder):
        folder.input()
        folder.input("old.h5", rows=4)
        shutil.copy("old.h5", "out.h5")
        folder.write("stage.py", STAGE)
        folder.write("one.yaml", FLOW)
        h5flow.run(["one.yaml", "one.yaml"], "out.h5", "in.h5")
        assert len(folder.rows("raw/data")) == 20
        assert folder.names() == {"in.h5", "old.h5", "out.h5", "stage.py", "one.yaml"}


class TestPositions:
    @pytest.mark.parametrize("arguments", [("-s", "-5"), ("-e", "-1")])
    @pytest.mark.parametrize(
        "flow",
        [
            "flow: {source: raw}",
            "{flow: {source: loop}, loop: {classname: H5FlowDatasetLoopGenerator, dset_name: raw}}",
        ],
    )
    def test_negative_ones_are_refused_before_the_input_is_copied(self, folder, arguments, flow):
        folder.input()
        folder.write("flow.yaml", flow)
        done = folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5", *arguments)
        assert done.code == 2
        assert f"position is {arguments[1]}, rows are counted from 0" in done.err
        assert folder.names() == {"in.h5", "flow.yaml"}

    def test_whatever_they_mean_to_a_generator_of_ones_own(self, folder):
        folder.write(
            "generator.py",
            """
            from h5flow.core import H5FlowGenerator
            class Own(H5FlowGenerator):
                def init(self):
                    self.data_manager.create_dset('raw', 'i8')
                    self.data_manager.set_attrs('raw', end=self.end_position)
                def next(self):
                    return self.EMPTY
            """,
        )
        folder.write("flow.yaml", "{flow: {source: own}, own: {classname: Own, dset_name: raw}}")
        h5flow.run("flow.yaml", "out.h5", end_position=-1)
        with h5flow.data.H5FlowDataManager("out.h5", "r") as dm:
            assert dm.get_attrs("raw") == {"end": -1}
        folder.write("loop.yaml", "flow: {source: raw}")
        with pytest.raises(UsageError, match="end position is -1"):
            h5flow.run("loop.yaml", "other.h5", "out.h5", end_position=-1)


class TestOverwriting:
    """An output that is there already is extended, or replaced."""

    GENERATOR = """
        from h5flow.core import H5FlowGenerator

        class Once(H5FlowGenerator):
            done = False

            def init(self):
                self.data_manager.create_dset(self.dset_name, "i4")

            def next(self):
                if self.done:
                    return self.EMPTY
                self.done = True
                return self.data_manager.reserve_data(self.dset_name, 5)
        """

    @pytest.mark.parametrize(
        ("arguments", "rows"), [([], 10), (["--overwrite"], 5), (["--set", "run.overwrite=true"], 5)]
    )
    def test_an_output_of_a_generator(self, folder, arguments, rows):
        folder.write("once.py", self.GENERATOR)
        folder.write("flow.yaml", "flow: {source: once}\nonce: {classname: Once, dset_name: made}\n")
        for _ in range(2):
            assert folder.run("flow.yaml", "-o", "out.h5", *arguments).code == 0
        assert len(folder.rows("made/data")) == rows

    def test_the_input_itself_is_not_lost(self, folder):
        folder.input("out.h5")
        folder.write("flow.yaml", "flow: {source: raw}\n")
        assert folder.run("flow.yaml", "-i", "./out.h5", "-o", "out.h5", "--overwrite").code == 0
        assert len(folder.rows("raw/data")) == 20


class TestTasksOfSlurm:
    """Processes that srun has started, but not told of each other."""

    @pytest.mark.parametrize(
        ("variables", "warned"),
        [
            ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2"}, True),
            ({"SLURM_STEP_NUM_TASKS": "1"}, False),
            ({"SLURM_NTASKS": "4"}, False),  # a batch script that starts one process
            ({"SLURM_STEP_NUM_TASKS": "4", "H5FLOW_NOMPI": "1"}, False),
        ],
    )
    def test_are_warned_that_each_does_everything(self, folder, monkeypatch, variables, warned):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        folder.input()
        folder.write("stage.py", STAGE)
        folder.write("one.yaml", FLOW)
        done = folder.run("one.yaml", "-i", "in.h5", "-o", "out.h5")
        assert done.code == 0
        assert ("srun has started 4 processes that don't know of each other" in done.err) is warned
