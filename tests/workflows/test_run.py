"""Workflows from end to end, as users run them."""

from __future__ import annotations

import numpy as np
import pytest

import h5flow

STAGES = """
    import numpy as np
    from h5flow.core import H5FlowGenerator, H5FlowResource, H5FlowStage, resources

    LOG = []

    class Offset(H5FlowResource):
        class_version = '1.2.3'
        def __init__(self, **params):
            super().__init__(**params)
            self.value = params.get('value', 0)
        def init(self, source_name):
            super().init(source_name)
            LOG.append(f'init resource {source_name}')
        def finish(self, source_name):
            super().finish(source_name)
            LOG.append('finish resource')

    class Count(H5FlowGenerator):
        def __init__(self, **params):
            super().__init__(**params)
            self.slices = params['slices']
            self.rows = params.get('rows', 4)
        def init(self):
            super().init()
            LOG.append('init generator')
            self.data_manager.create_dset(self.dset_name, dtype='i8')
        def next(self):
            if not self.slices:
                return H5FlowGenerator.EMPTY
            self.slices -= 1
            rows = self.data_manager.reserve_data(self.dset_name, self.rows)
            self.data_manager.write_data(self.dset_name, rows, np.arange(rows.start, rows.stop))
            return rows
        def finish(self):
            super().finish()
            LOG.append('finish generator')

    class Double(H5FlowStage):
        def __init__(self, **params):
            super().__init__(**params)
            self.into = params.get('into', 'doubled')
        def init(self, source_name):
            super().init(source_name)
            LOG.append(f'init {self.name}')
            self.data_manager.create_dset(self.into, dtype='i8')
            self.data_manager.create_ref(source_name, self.into)
        def run(self, source_name, source_slice, cache):
            super().run(source_name, source_slice, cache)
            values = cache[source_name] * 2 + resources['Offset'].value
            rows = self.data_manager.reserve_data(self.into, len(values))
            self.data_manager.write_data(self.into, rows, values)
            self.data_manager.write_ref(source_name, self.into, np.c_[source_slice, rows])
        def finish(self, source_name):
            super().finish(source_name)
            LOG.append(f'finish {self.name}')
            self.data_manager.set_attrs(self.into, log=LOG, requires=repr(self.requires))

    class Sum(H5FlowStage):
        def init(self, source_name):
            self.total = 0
        def run(self, source_name, source_slice, cache):
            self.total += int(cache['doubled'].sum())
        def finish(self, source_name):
            self.data_manager.set_attrs('sum', total=self.total)
    """

WORKFLOW = """
    flow:
      source: counter
      stages: [double, sum]
    resources:
      - classname: Offset
        params: {value: 1}
    counter:
      classname: Count
      dset_name: numbers
      params: {slices: 5}
    double:
      classname: Double
    sum:
      classname: Sum
      requires: [doubled]
    """


class TestOrder:
    @pytest.mark.parametrize("module", [True, False], ids=["python -m", "console script"])
    def test_components_in_order(self, folder, module):
        folder.write("stages.py", STAGES)
        folder.write("flow.yaml", WORKFLOW)
        done = folder.run("flow.yaml", "-o", "out.h5", module=module)
        assert done.code == 0, done.err
        assert "out.h5: 5 slices, 20 rows" in done.err
        assert folder.rows("numbers/data").tolist() == list(range(20))
        assert folder.rows("doubled/data").tolist() == [2 * n + 1 for n in range(20)]
        assert folder.rows("numbers/ref/doubled/ref").tolist() == [[n, n] for n in range(20)]
        with h5flow.core.h5_flow_manager.H5FlowDataManager("out.h5", "r") as dm:
            assert dm.get_attrs("sum")["total"] == sum(2 * n + 1 for n in range(20))
            assert list(dm.get_attrs("doubled")["log"]) == [
                "init resource numbers",
                "init generator",
                "init double",
                "finish generator",
                "finish double",
            ]
        assert folder.names() == {"stages.py", "flow.yaml", "out.h5"}

    def test_run_by_function(self, folder):
        folder.write("stages.py", STAGES)
        folder.write("flow.yaml", WORKFLOW)
        h5flow.run(["flow.yaml"], "out.h5", drop=["doubled"])
        assert "Offset" in h5flow.resources
        assert h5flow.resources is h5flow.core.resources
        with pytest.raises(KeyError):
            folder.rows("doubled/data")
        assert folder.rows("numbers/data").tolist() == list(range(20))
        assert folder.names() == {"stages.py", "flow.yaml", "out.h5"}

    def test_manager_by_hand(self, folder):
        folder.write("stages.py", STAGES)
        config = {
            "flow": {"source": "counter", "stages": ["double"]},
            "resources": [{"classname": "Offset"}],
            "counter": {"classname": "Count", "dset_name": "numbers", "params": {"slices": 2}},
            "double": {"classname": "Double", "requires": ["numbers", {"name": "x", "path": "doubled"}]},
        }
        manager = h5flow.core.H5FlowManager(config, "out.h5")
        assert [stage.name for stage in manager.stages] == ["double"]
        assert manager.generator.dset_name == "numbers"
        assert manager.stages[0].requires == [
            {"name": "numbers", "path": ["numbers"], "index_only": False},
            {"name": "x", "path": ["doubled"], "index_only": False},
        ]
        manager.init()
        manager.run()
        cache: dict[str, object] = {"numbers": "kept"}
        manager.update_cache(cache, "numbers", slice(0, 2), manager.format_requirements(["doubled"]))
        assert cache["numbers"] == "kept"
        assert cache["doubled"].tolist() == [[0], [2]]
        assert not (folder.path / "out.h5").exists()
        manager.finish()
        assert folder.rows("doubled/data").tolist() == [2 * n for n in range(8)]


LOOK = """
    import numpy as np
    from h5flow.core import H5FlowStage

    class Look(H5FlowStage):
        def init(self, source_name):
            self.seen = []
        def run(self, source_name, source_slice, cache):
            self.seen.append(repr((source_slice, {k: None if v is None else v.tolist() for k, v in cache.items()})))
        def finish(self, source_name):
            self.data_manager.set_attrs(self.name, seen=self.seen)
    """


def seen(folder, stage: str = "look") -> list:
    with h5flow.core.h5_flow_manager.H5FlowDataManager("out.h5", "r") as dm:
        return [eval(line, {"slice": slice}) for line in dm.get_attrs(stage)["seen"]]


class TestLoop:
    def look(self, folder, *arguments, requires="[]", params="{}", rows=20):
        folder.write("look.py", LOOK)
        folder.write(
            "flow.yaml",
            f"""
            flow: {{source: loop, stages: [look]}}
            loop: {{classname: H5FlowDatasetLoopGenerator, dset_name: raw, params: {params}}}
            look: {{classname: Look, requires: {requires}}}
            """,
        )
        folder.input(rows=rows)
        done = folder.run("-c", "flow.yaml", "-o", "out.h5", "-i", "in.h5", *arguments)
        assert done.code == 0, done.err
        return done

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            ((), [(0, 8), (8, 16), (16, 20)]),
            (("-s", "3"), [(3, 11), (11, 19), (19, 20)]),
            (("-e", "9"), [(0, 8), (8, 9)]),
            (("-s", "5", "-e", "1000"), [(5, 13), (13, 20)]),
            (("-s", "9", "-e", "4"), []),
            (("-s", "50"), []),
        ],
    )
    def test_rows_from_start_to_end(self, folder, arguments, expected):
        self.look(folder, *arguments, params="{chunk_size: 8}")
        assert [(rows.start, rows.stop) for rows, _ in seen(folder)] == expected

    def test_automatic_chunks_and_an_empty_dataset(self, folder):
        self.look(folder, rows=0)
        assert seen(folder) == []
        self.look(folder, rows=5)
        assert [rows for rows, _ in seen(folder)] == [slice(0, 5)]

    def test_requirements(self, folder):
        self.look(
            folder,
            params="{chunk_size: 2}",
            requires="[hits, {name: numbers, path: hits, index_only: true}, {name: chain, path: [hits, calib]},"
            " {name: by_row, path: [calib, hits]}, {name: beside, path: calib},"
            " {name: rows, path: calib, index_only: true}, {name: nothing, path: [hits, nowhere]}]",
        )
        rows, cache = seen(folder)[1]
        assert rows == slice(2, 4)
        assert list(cache) == ["raw", "hits", "numbers", "chain", "by_row", "beside", "rows", "nothing"]
        assert cache["hits"] == [[(2, 20.0), (3, 30.0)], [(None, None), (None, None)]]
        assert cache["numbers"] == [[2, 3], [None, None]]
        assert cache["chain"] == [[[(2, 200.0)], [(3, 300.0)]], [[(None, None)], [(None, None)]]]
        assert cache["by_row"] == [[(2, 20.0)], [(3, 30.0)]]
        assert cache["beside"] == [(2, 200.0), (3, 300.0)]
        assert cache["rows"] == [2, 3]
        assert cache["nothing"] is None

    def test_what_can_not_be_loaded_is_said_once(self, folder):
        done = self.look(folder, params="{chunk_size: 2}", requires="[nowhere]")
        assert done.err.count("requirement 'nowhere' is None: dataset 'nowhere' isn't in") == 1
        assert '"level":"warning"' in done.err
        strict = folder.run("flow.yaml", "-i", "in.h5", "-o", "strict.h5", "--set", "runtime.strict=true")
        assert strict.code == 1
        assert "stage 'look' (flow.yaml:4), rank 0, slice 0:2: dataset 'nowhere' isn't in" in strict.err

    def test_a_dataset_as_source(self, folder):
        folder.write("look.py", LOOK)
        folder.write(
            "flow.yaml",
            """
            flow: {source: raw, stages: [look], drop: [calib]}
            look: {classname: Look}
            run: {input: in.h5, output: out.h5, end: 3}
            """,
        )
        folder.input()
        done = folder.run("flow.yaml")
        assert done.code == 0, done.err
        assert [rows for rows, _ in seen(folder)] == [slice(0, 3)]
        with pytest.raises(KeyError):
            folder.rows("calib/data")
        with pytest.raises(KeyError):
            folder.rows("hits/ref/calib/ref")
        assert len(folder.rows("raw/ref/hits/ref")) == 20


class TestCache:
    def test_what_stays_and_what_is_loaded_again(self, folder):
        """Catches a cache that forgets replaced entries, keeps foreign ones or reloads what is there."""
        folder.write(
            "stages.py",
            """
            import numpy as np
            from h5flow.core import H5FlowStage

            class Change(H5FlowStage):
                def run(self, source_name, source_slice, cache):
                    cache['hits'] = 'replaced'
                    cache['calib'][...] = 7
                    cache['extra'] = 'until the next stage'
                    cache['later'] = 'kept until required'
                    del cache['raw']

            class Look(H5FlowStage):
                def init(self, source_name):
                    self.seen = []
                def run(self, source_name, source_slice, cache):
                    self.seen.append(repr({k: v if isinstance(v, str) else v.tolist() for k, v in cache.items()}))
                    cache.pop('hits', None)
                def finish(self, source_name):
                    self.data_manager.set_attrs(self.name, seen=self.seen)
            """,
        )
        folder.write(
            "flow.yaml",
            """
            flow: {source: loop, stages: [change, first, second]}
            loop: {classname: H5FlowDatasetLoopGenerator, dset_name: raw, params: {chunk_size: 1}}
            change:
              classname: Change
              requires: [{name: hits, path: [hits], index_only: true}, {name: calib, path: [raw]}]
            first: {classname: Look}
            second: {classname: Look, requires: [{name: later, path: calib}]}
            """,
        )
        folder.input(rows=4)
        done = folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5")
        assert done.code == 0, done.err
        first, second = seen(folder, "first"), seen(folder, "second")
        assert first[0] == {"hits": "replaced", "calib": [(7, 7.0)], "raw": [(0, 0.0)]}
        assert second[0] == {
            "calib": [(7, 7.0)],
            "raw": [(0, 0.0)],
            "hits": [[0, 1]],
            "later": [(0, 0.0)],
        }
        assert first[1]["raw"] == [(1, 0.5)]


class TestSeveralWorkflows:
    def test_each_on_the_file_of_the_one_before(self, folder, everything):
        folder.write("stages.py", STAGES)
        folder.write("look.py", LOOK)
        folder.write("one.yaml", WORKFLOW)
        folder.write(
            "two.yaml",
            """
            flow: {source: loop, stages: [look]}
            loop: {classname: H5FlowDatasetLoopGenerator, dset_name: doubled, params: {chunk_size: 10}}
            look: {classname: Look, requires: [numbers]}
            """,
        )
        done = folder.run("-c", "one.yaml", "two.yaml", "-o", "out.h5", "-d", "numbers")
        assert done.code == 0, done.err
        assert [cache["numbers"][0] for _, cache in seen(folder)] == [[0], [10]]
        with pytest.raises(KeyError):
            folder.rows("numbers/data")
        assert folder.run("one.yaml", "-o", "apart.h5").code == 0
        assert folder.run("two.yaml", "-i", "apart.h5", "-o", "./apart.h5", "-d", "numbers").code == 0
        assert everything("apart.h5") == everything("out.h5")

    def test_a_generator_appends_to_what_is_there(self, folder):
        folder.write("stages.py", STAGES)
        folder.write("flow.yaml", WORKFLOW)
        for _ in range(2):
            assert folder.run("flow.yaml", "-o", "out.h5").code == 0
        assert len(folder.rows("numbers/data")) == 40
        assert folder.rows("numbers/ref/doubled/ref")[:, 1].tolist() == list(range(40))

    def test_a_loop_replaces_what_is_there_and_says_so(self, folder):
        folder.write("flow.yaml", "flow: {source: raw, stages: []}")
        folder.input(rows=20)
        folder.input("other.h5", rows=4)
        assert folder.run("flow.yaml", "-i", "in.h5", "-o", "out.h5").code == 0
        done = folder.run("flow.yaml", "-i", "other.h5", "-o", "out.h5")
        assert done.code == 0
        assert "output 'out.h5' exists and will be replaced" in done.err
        assert len(folder.rows("raw/data")) == 4

    def test_compression(self, folder):
        folder.write("stages.py", STAGES)
        folder.write("flow.yaml", WORKFLOW)
        assert folder.run("flow.yaml", "-o", "out.h5", "-z", "gzip").code == 0
        with h5flow.core.h5_flow_manager.H5FlowDataManager("out.h5", "r") as dm:
            assert dm.get_dset("doubled").compression == "gzip"
            assert np.array_equal(dm["doubled", :], 2 * np.arange(20) + 1)


def test_parameters_may_have_any_names(folder):
    """Also those that the manager has for something of its own."""
    names = ["where", "position", "call", "args", "kwargs", "section", "base", "label", "part", "component", "rank"]
    names += ["config", "function", "source", "mode", "path", "stage", "slice", "loader", "size", "comm", "params"]
    folder.write(
        "parts.py",
        f"""
        from h5flow.core import H5FlowGenerator, H5FlowResource, H5FlowStage

        NAMES = {names}

        class Given:
            def __init__(self, **params):
                super().__init__(**params)
                assert [params[name] for name in NAMES] == list(range(len(NAMES)))

        class Source(Given, H5FlowGenerator):
            def next(self):
                return self.EMPTY

        class Stage(Given, H5FlowStage): ...

        class Resource(Given, H5FlowResource): ...
        """,
    )
    params = ", ".join(f"{name}: {number}" for number, name in enumerate(names))
    folder.write(
        "workflow.yaml",
        f"""
        flow: {{source: source, stages: [stage]}}
        resources: [{{classname: Resource, path: parts, params: {{{params}}}}}]
        source: {{classname: Source, path: parts, dset_name: raw, params: {{{params}}}}}
        stage: {{classname: Stage, path: parts, params: {{{params}}}}}
        """,
    )
    done = folder.run("workflow.yaml", "-o", "out.h5")
    assert done.code == 0, done.err
