"""Classes are found where they are defined, and nothing else is run."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from h5flow.errors import DiscoveryError
from h5flow.modules import H5FlowDatasetLoopGenerator, find_class, get_class

FORBIDDEN = "raise SystemExit('this file must not be run')\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; modules that a test imports are forgotten afterwards."""
    before = dict(sys.modules)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - set(before):
        if str(tmp_path) in str(getattr(sys.modules[name], "__path__", "")) + str(
            getattr(sys.modules[name], "__file__", "")
        ):
            del sys.modules[name]


def write(**files: str) -> None:
    for name, text in files.items():
        file = Path(f"{name}.py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)


def message(classname: str, path: str | None = None) -> str:
    with pytest.raises(DiscoveryError) as error:
        get_class(classname, path)
    return str(error.value)


class TestOrder:
    def test_from_the_working_directory_to_the_built_in_modules(self, folder):
        places = ["sub/deeper/a", "h5flow_modules/a", "a"]
        for place in places:
            write(**{place: f"class H5FlowDatasetLoopGenerator:\n    place = '{place}'\n"})
            found = get_class("H5FlowDatasetLoopGenerator")
            assert found.place == place
        for place in places:
            Path(f"{place}.py").unlink()
        assert get_class("H5FlowDatasetLoopGenerator") is H5FlowDatasetLoopGenerator

    @pytest.mark.parametrize(
        ("file", "module"),
        [
            ("reco", "reco"),
            ("h5flow_modules/reco", "h5flow_modules.reco"),
            ("h5flow_modules/charge/hits/reco", "h5flow_modules.charge.hits.reco"),
            ("package/__init__", "package"),
            ("some/where/reco", "some.where.reco"),
            ("my-mod", "my-mod"),
            ("h5flow_modules/my-mods/2nd", "h5flow_modules.my-mods.2nd"),
        ],
    )
    def test_the_module_is_the_one_that_path_gives(self, file, module):
        write(**{file: "class Reco: pass\n"})
        found = get_class("Reco")
        assert found.__module__ == module
        assert get_class("Reco", path=module) is found
        assert get_class("Reco") is found

    def test_find_class_looks_at_the_files_of_one_directory(self, folder):
        write(**{"a/b/reco": "class Reco: pass\n", "a/other": "class Other: pass\n"})
        assert find_class("Reco", "a") is None
        assert find_class("Reco", "nowhere") is None
        assert find_class("Reco", "./a/../a/b") is get_class("Reco", "a.b.reco")
        assert find_class("Other", str(folder / "a")) is get_class("Other")
        assert find_class("Reco", ".") is None

    def test_find_class_outside_of_the_working_directory(self, folder, monkeypatch):
        write(**{"elsewhere/reco": "from .helper import x\nclass Reco: value = x\n", "elsewhere/helper": "x = 5\n"})
        (folder / "here").mkdir()
        monkeypatch.chdir(folder / "here")
        assert find_class("Reco", "../elsewhere").value == 5


class TestOnlyWhatIsNeededIsRun:
    def test_other_files_are_not(self):
        write(
            reco="class Reco: pass\n",
            forbidden=FORBIDDEN,
            mentions=FORBIDDEN + "x = Reco\n'''\nclass Reco:\n'''\n",
            nested=FORBIDDEN + "def f():\n    class Reco: pass\nclass A:\n    class Reco: pass\n",
            longer=FORBIDDEN + "class Reconstruction: pass\n",
            broken="class (\n",
            broken_too="class Reco: pass\nx = (\n",
            binary="class Reco: pass\n\0",
        )
        assert get_class("Reco").__module__ == "reco"

    def test_a_broken_file_that_only_mentions_the_class_is_not(self):
        write(broken="# class Reco:\nprint 'python 2'\n", **{"h5flow_modules/reco": "class Reco: pass\n"})
        assert get_class("Reco").__module__ == "h5flow_modules.reco"

    @pytest.mark.parametrize(
        "text",
        [
            "if True:\n    class Reco: pass\n",
            "try:\n    import no_such_module\nexcept ImportError:\n    class Reco: pass\n",
            "import contextlib\nwith contextlib.suppress(ValueError):\n    class  Reco (object): pass\n",
            "match 1:\n    case 1:\n        class\tReco: pass\n",
            "@print\nclass Other: pass\nclass Reco: pass\n",
        ],
    )
    def test_definitions_below_statements_count(self, text):
        write(reco=text)
        assert get_class("Reco").__name__ == "Reco"

    @pytest.mark.parametrize(
        "place",
        ["env/lib/a", "conda/lib/a", "x/site-packages/a", ".hidden/a", "x/__pycache__/a", "x/node_modules/a"],
    )
    def test_directories_of_installed_packages_are_passed_over(self, folder, place):
        write(**{place: FORBIDDEN + "class Reco: pass\n"})
        (folder / "env").mkdir(exist_ok=True)
        (folder / "env" / "pyvenv.cfg").touch()
        (folder / "conda" / "conda-meta").mkdir(parents=True)
        assert "no module defines class 'Reco'" in message("Reco")

    def test_another_copy_of_h5flow_is_passed_over(self):
        copy = {"build/h5flow/__init__": "", "build/h5flow/x": "class H5FlowDatasetLoopGenerator: pass\n"}
        write(**copy, **{"h5flow/__init__": "", "h5flow/modules/test_stage": FORBIDDEN})
        assert get_class("H5FlowDatasetLoopGenerator") is H5FlowDatasetLoopGenerator
        assert get_class("H5FlowTestStage", "h5flow.modules.test_stage").__name__ == "H5FlowTestStage"

    def test_no_warnings_from_files_that_are_only_looked_at(self):
        write(reco="class Reco: pass\n", other="def f():\n    class Reco: x = '\\d'\n")
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            assert get_class("Reco")
        assert seen == []

    def test_symbolic_links(self, folder):
        write(**{"real/reco": "class Reco: pass\n"})
        (folder / "real" / "up").symlink_to(folder)
        (folder / "real" / "self").symlink_to("self")
        (folder / "again").symlink_to("real")
        (folder / "dangling.py").symlink_to("nothing.py")
        (folder / "real" / "alias.py").symlink_to("reco.py")
        assert get_class("Reco").__name__ == "Reco"

    def test_a_module_is_run_once(self):
        write(reco="import builtins\nruns = []\nclass A: runs = runs\nclass B: runs = runs\nruns.append(1)\n")
        a, b = get_class("A"), get_class("B", "reco")
        assert a.runs is b.runs
        assert a.runs == [1]

    def test_a_script_that_runs_a_workflow_of_its_own_class(self, folder):
        write(
            script="print('run')\nclass Own: pass\n"
            "from h5flow.modules import get_class\nassert get_class('Own') is Own\n"
        )
        done = subprocess.run([sys.executable, "script.py"], capture_output=True, text=True, check=False, cwd=folder)
        assert (done.stdout, done.stderr) == ("run\n", "")


class TestNames:
    def test_a_name_that_another_module_has(self):
        import json

        write(json="class Reco: pass\n", **{"json_/a": "", "email/reco": "class Other: pass\n"})
        found = get_class("Reco")
        assert get_class("Reco") is get_class("Reco", "json") is found
        assert sys.modules["json"] is json
        assert sys.modules[found.__module__].Reco is found
        assert get_class("Other") is get_class("Other", "email.reco")

    @pytest.mark.parametrize("init", [True, False])
    def test_relative_imports(self, init):
        for place in ("mods", "email"):
            write(**{f"{place}/sub/reco": "from .x import y\nfrom ..z import w\nclass Reco: value = y + w\n"})
            write(**{f"{place}/sub/x": "y = 1\n", f"{place}/z": "w = 2\n"})
            if init:
                write(**{f"{place}/__init__": "", f"{place}/sub/__init__": ""})
        assert get_class("Reco", "mods.sub.reco").value == 3
        assert get_class("Reco", "email.sub.reco").value == 3

    def test_names_with_dots(self):
        write(**{"v1.2/reco.new": "from .x import y\nclass Reco: value = y\n", "v1.2/x": "y = 1\n", "reco": FORBIDDEN})
        assert get_class("Reco").value == 1
        assert get_class("Reco") is get_class("Reco")

    def test_a_name_with_a_dot_does_not_run_what_stands_before_it(self):
        write(**{"reco": FORBIDDEN, "reco.new": "class Reco: pass\n"})
        assert get_class("Reco").__name__ == "Reco"

    def test_a_package_that_is_the_working_directory(self):
        write(__init__="class Reco: pass\n")
        assert get_class("Reco") is get_class("Reco")

    @pytest.mark.parametrize("path", [None, "h5flow_modules.reco"])
    def test_changing_the_working_directory(self, folder, monkeypatch, path):
        found = []
        for name in ("first", "second", "first"):
            write(**{f"{folder}/{name}/h5flow_modules/reco": f"class Reco: place = '{name}'\n"})
            monkeypatch.chdir(folder / name)
            found.append(get_class("Reco", path))
        assert [reco.place for reco in found] == ["first", "second", "first"]
        assert found[0] is found[2]

    def test_the_working_directory_can_be_imported_from(self, folder):
        write(helper="x = 1\n", reco="import helper\nclass Reco: value = helper.x\n")
        assert str(folder) not in sys.path
        assert get_class("Reco", "reco").value == 1
        assert sys.path[0] == str(folder)
        get_class("Reco")
        assert sys.path.count(str(folder)) == 1

    def test_an_installed_module(self):
        assert get_class("JSONDecoder", "json.decoder").__module__ == "json.decoder"

    def test_a_file_that_the_import_system_has_not_noticed(self, folder):
        write(**{"mods/a": "class A: pass\n"})
        assert get_class("A")
        status = (folder / "mods").stat()
        write(**{"mods/b": "class B: pass\n"})
        os.utime("mods", ns=(status.st_atime_ns, status.st_mtime_ns))
        assert get_class("B").__module__ == "mods.b"

    def test_a_file_that_has_changed(self, folder):
        write(reco="class A: pass\n")
        assert find_class("Reco", ".") is None
        write(reco="class Reco: pass\n")
        assert find_class("Reco", ".") is not None


class TestMistakes:
    def test_no_such_class(self, folder):
        write(**{"h5flow_modules/reco": FORBIDDEN + "class HitFinder: pass\n"})
        assert message("HitFindr") == (
            "no module defines class 'HitFindr' (did you mean 'HitFinder'?); looked in the files of "
            f"{folder}, in h5flow_modules/, in the subdirectories of both, and among the built-in modules"
        )
        with pytest.raises(RuntimeError):
            get_class("HitFindr")

    def test_two_files(self):
        write(**{"h5flow_modules/a": FORBIDDEN + "class Reco: pass\n"})
        write(**{"h5flow_modules/my-b": FORBIDDEN + "class Reco: pass\n"})
        assert message("Reco") == (
            "class 'Reco' is defined in h5flow_modules/a.py (path: h5flow_modules.a) and in "
            "h5flow_modules/my-b.py (path: h5flow_modules.my-b); say which one is meant, with 'path'"
        )
        with pytest.raises(DiscoveryError, match="say which one"):
            find_class("Reco", "h5flow_modules")

    def test_no_such_class_in_a_module(self):
        write(reco="class HitFinder: pass\nnumber = 1\n")
        assert message("HitFindr", "reco") == ("module 'reco' has no class 'HitFindr' (did you mean 'HitFinder'?)")
        assert message("number", "reco") == "'number' in module 'reco' is not a class"

    @pytest.mark.parametrize("path", ["recoo", "reco.deeper", "nowhere.reco"])
    def test_no_such_module(self, folder, path):
        write(reco="class Reco: pass\n")
        assert message("Reco", path) == (
            f"there is no module '{path}', neither in {folder} nor among the installed ones"
        )

    @pytest.mark.parametrize("path", ["", "mods/reco.py", ".reco", "a..b"])
    def test_a_path_that_names_no_module(self, path):
        assert message("Reco", path) == (f"'path' is a python module, such as h5flow_modules.reco, not '{path}'")

    @pytest.mark.parametrize("path", [None, "mods.reco"])
    @pytest.mark.parametrize(
        ("text", "error"),
        [
            ("import no_such_thing\n", ModuleNotFoundError),
            ("1 / 0\n", ZeroDivisionError),
            ("x = (\n", SyntaxError),
            ("raise SystemExit(3)\n", SystemExit),
        ],
    )
    @pytest.mark.parametrize("place", ["mods/reco", "mods/__init__"])
    def test_an_error_in_the_module_is_the_users(self, path, text, error, place):
        write(**{"mods/reco": "class Reco: pass\n"})
        Path(f"{place}.py").open("a").close()
        write(**{place: Path(f"{place}.py").read_text() + text})
        with pytest.raises(error) as raised:
            get_class("Reco", path)
        what = "module 'mods.reco'" if path else "mods/reco.py"
        assert raised.value.__notes__ == [f"while importing {what} for class 'Reco'"]
        assert not any(str(Path.cwd()) in str(getattr(m, "__file__", "")) for m in list(sys.modules.values()))


def test_a_thousand_modules_cost_little(folder):
    """Catches parsing, or reading again, what isn't needed; in earnest it is measured by the benchmarks."""
    body = "".join(f'def f{i}(x):\n    """A class of functions."""\n    return x * {i}\n\n' for i in range(70))
    write(**{f"mod{n}": f"class Stage{n}: pass\n{body}" for n in range(1000)})
    importlib.import_module("ast")
    times = []
    for n in (1, 500, 999):
        started = time.process_time()
        assert get_class(f"Stage{n}").__module__ == f"mod{n}"
        times.append(time.process_time() - started)
    assert times[0] < 0.3
    assert min(times[1:]) < 0.1
