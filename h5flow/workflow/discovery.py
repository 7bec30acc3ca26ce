"""Finding the class that a workflow names, without running modules that don't define it."""

from __future__ import annotations

import importlib
import os
import re
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from importlib.machinery import ModuleSpec
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from io import FileIO
from pathlib import Path
from types import ModuleType

from h5flow.errors import DiscoveryError
from h5flow.workflow.spelling import did_you_mean

_PACKAGE = __name__.partition(".")[0]
_BUILT_IN = Path(__file__).parents[1] / "modules"
_OWN_MODULES = "h5flow_modules"

_NOT_SEARCHED = {"__pycache__", "site-packages", "node_modules"}
_ENVIRONMENT = ("pyvenv.cfg", "conda-meta")

# Modules are there before they are complete: of runs in threads at once, one waits for the other's.
_importing = threading.RLock()

# Starts with plain text, which is what makes it quick; whether it is a definition is asked later.
_CLASS_NAME = re.compile(rb"class[ \t]+([\w\x80-\xff]+)")


def get_class(classname: str, path: str | None = None) -> type:
    """Find the class of that name; raises `DiscoveryError` if there is none, or more than one.

    With `path`, that python module is imported. Otherwise the class is searched for in the files of the
    working directory, in `h5flow_modules/`, in the subdirectories of both, and among the built-in modules;
    only the module that defines it is run.
    """
    with _importing:
        return _found(classname, path)


def _found(classname: str, path: str | None) -> type:
    here = Path.cwd()
    _make_importable(here)
    if path is not None:
        with _noting(f"importing module '{path}' for class '{classname}'"):
            return _class_of(_imported(path, here), classname)
    names: set[str] = set()
    for files in _levels(here):
        file = _defining(classname, files, here)
        if file is not None:
            return _class_in(file, classname, here)
        names.update(name.decode(errors="replace") for entry in files for name in _class_names(entry))
    raise DiscoveryError(
        f"no module defines class '{classname}'{did_you_mean(classname, names)}; looked in the files of "
        f"{here}, in {_OWN_MODULES}/, in the subdirectories of both, and among the built-in modules"
    )


def find_class(classname: str, directory: str) -> type | None:
    """Find the class of that name that a file in `directory` itself defines, `None` if no file does."""
    with _importing:
        here = Path.cwd()
        _make_importable(here)
        file = _defining(classname, _listing(os.path.normpath(here / directory))[0], here)
        return None if file is None else _class_in(file, classname, here)


# Searching


def _levels(here: Path) -> Iterator[list[os.DirEntry[str]]]:
    """Yield the files to search, in order of precedence."""
    files, folders = _listing(here)
    yield files
    yield _listing(here / _OWN_MODULES)[0]
    seen = {_identity(here.stat())}
    yield list(_below(folders, seen))
    yield _listing(_BUILT_IN)[0]


def _below(folders: list[os.DirEntry[str]], seen: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    for folder in folders:
        # Symbolic links can lead back.
        if (identity := _identity(folder.stat())) not in seen and not _is_foreign(folder):
            seen.add(identity)
            files, deeper = _listing(folder.path)
            yield from files
            yield from _below(deeper, seen)


def _listing(directory: str | Path) -> tuple[list[os.DirEntry[str]], list[os.DirEntry[str]]]:
    """List the python files in a directory, and the directories; hidden ones are left out."""
    try:
        with os.scandir(directory) as found:
            entries = sorted(found, key=lambda entry: entry.name)
    except OSError:
        # A directory that can't be read has nothing to offer; that a class is missing is said anyway.
        return [], []
    visible = [entry for entry in entries if not entry.name.startswith(".")]
    files = [entry for entry in visible if entry.name.endswith(".py") and _holds(entry.is_file)]
    return files, [entry for entry in visible if _holds(entry.is_dir)]


def _holds(question: Callable[[], bool]) -> bool:
    try:
        return question()
    except OSError:
        # A symbolic link to itself, for one, is neither a file nor a directory.
        return False


def _is_foreign(folder: os.DirEntry[str]) -> bool:
    """Say whether a directory holds installed packages, or this package: its source, another copy."""
    if folder.name in _NOT_SEARCHED:
        return True
    path = Path(folder.path)
    if any((path / marker).exists() for marker in _ENVIRONMENT):
        return True
    return folder.name == _PACKAGE and (path / "__init__.py").exists()


def _defining(classname: str, files: Iterable[os.DirEntry[str]], here: Path) -> Path | None:
    """Find the file that defines a class."""
    name = classname.encode()
    candidates = {Path(entry.path).resolve(): Path(entry.path) for entry in files if name in _class_names(entry)}
    verdicts = {path: _defines(path, classname) for path in candidates.values()}
    # A file with syntax errors gets imported if no other defines the class, for the error to be seen.
    for wanted in (True, None):
        found = [path for path, verdict in verdicts.items() if verdict is wanted]
        if len(found) > 1:
            files_and_paths = [f"{_shown(path, here)} (path: {'.'.join(_module_parts(path, here))})" for path in found]
            raise DiscoveryError(
                f"class '{classname}' is defined in {' and in '.join(files_and_paths)}; "
                "say which one is meant, with 'path'"
            )
        if found:
            return found[0]
    return None


def _class_names(entry: os.DirEntry[str]) -> frozenset[bytes]:
    """Find the names that follow the word `class` in a file."""
    try:
        status = entry.stat()
        return _class_names_as_of(entry.path, status.st_mtime_ns, status.st_size)
    except OSError:
        return frozenset()


@lru_cache(maxsize=10_000)
def _class_names_as_of(path: str, mtime_ns: int, size: int) -> frozenset[bytes]:
    with FileIO(path) as file:
        return frozenset(_CLASS_NAME.findall(file.readall()))


def _defines(path: Path, classname: str) -> bool | None:
    """Say whether a file defines a class at its top level; `None` if it seems to, but has syntax errors."""
    import ast

    source = path.read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            nodes: list[ast.AST] = [ast.parse(source)]
        except (SyntaxError, ValueError):
            seems_to = re.search(rb"^class[ \t]+%b\b" % re.escape(classname.encode()), source, re.MULTILINE)
            return None if seems_to else False
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.ClassDef) and node.name == classname:
            return True
        if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.expr):
            nodes.extend(ast.iter_child_nodes(node))
    return False


# Importing


def _make_importable(here: Path) -> None:
    # The console script, unlike `python -m`, doesn't do it.
    if str(here) not in sys.path and "" not in sys.path:
        sys.path.insert(0, str(here))


def _imported(path: str, here: Path) -> ModuleType:
    """Import the module that `path` in a workflow means; what the working directory has comes first."""
    parts = path.split(".")
    if "/" in path or not all(parts):
        raise DiscoveryError(f"'path' is a python module, such as {_OWN_MODULES}.reco, not '{path}'")
    base = here.joinpath(*parts)
    for file in (base / "__init__.py", base.with_name(f"{base.name}.py")):
        if parts[0] != _PACKAGE and file.is_file():
            return _module_of(file, here)
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{path}.".startswith(f"{error.name}."):
            raise DiscoveryError(
                f"there is no module '{path}', neither in {here} nor among the installed ones"
            ) from None
        raise


def _class_in(file: Path, classname: str, here: Path) -> type:
    with _noting(f"importing {_shown(file, here)} for class '{classname}'"):
        return _class_of(_module_of(file, here), classname)


def _class_of(module: ModuleType, classname: str) -> type:
    found = getattr(module, classname, None)
    if isinstance(found, type):
        return found
    if found is not None:
        raise DiscoveryError(f"'{classname}' in module '{module.__name__}' is not a class")
    classes = [name for name, value in vars(module).items() if isinstance(value, type)]
    raise DiscoveryError(f"module '{module.__name__}' has no class '{classname}'{did_you_mean(classname, classes)}")


def _module_of(file: Path, here: Path) -> ModuleType:
    """Import the module of a file: under its usual name if that leads to it, otherwise under a private one."""
    parts = _module_parts(file, here)
    name = ".".join(parts)
    # The program itself may be the file, when a script runs a workflow of its own classes.
    for loaded in (sys.modules.get(name), sys.modules.get("__main__")):
        if loaded is not None and _is_file_of(getattr(loaded, "__file__", None), file):
            return loaded
    has_usual_name = name not in sys.modules and not any("." in part for part in parts)
    if has_usual_name and _leads_to(name, file):
        return importlib.import_module(name)
    return _privately_imported(file, here)


def _leads_to(name: str, file: Path) -> bool:
    """Say whether importing `name` would import the file."""
    spec = _spec(name)
    if spec is None:
        # Files and folders may be newer than what the import system remembers.
        importlib.invalidate_caches()
        spec = _spec(name)
    return spec is not None and _is_file_of(spec.origin, file)


def _spec(name: str) -> ModuleSpec | None:
    try:
        return find_spec(name)
    except ModuleNotFoundError:
        return None


def _privately_imported(file: Path, here: Path) -> ModuleType:
    """Import the module of a file whose usual name can't be used, because it is taken or has a dot in it.

    Its name is in a package made for the directory, so that relative imports work.
    """
    directory = _root(file, here)
    name = f"_h5flow_{zlib.crc32(os.fsencode(directory)):08x}"
    _package(name, directory)
    *folders, last = _module_parts(file, here)
    for folder in folders:
        directory /= folder
        name = f"{name}.{folder.replace('.', '_')}"
        if (directory / "__init__.py").exists():
            _loaded(name, directory / "__init__.py")
        else:
            _package(name, directory)
    return _loaded(f"{name}.{last.replace('.', '_')}", file)


def _package(name: str, directory: Path) -> None:
    if name not in sys.modules:
        sys.modules[name] = ModuleType(name)
        sys.modules[name].__path__ = [str(directory)]


def _loaded(name: str, file: Path) -> ModuleType:
    if name not in sys.modules:
        spec = spec_from_file_location(name, file)
        assert spec is not None
        assert spec.loader is not None
        module = sys.modules[name] = module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _root(file: Path, here: Path) -> Path:
    """Return the directory from which the name of a file's module counts."""
    if file.is_relative_to(_BUILT_IN):
        return _BUILT_IN.parents[1]
    return here if file.is_relative_to(here) else file.parent


def _module_parts(file: Path, here: Path) -> list[str]:
    parts = list(file.relative_to(_root(file, here)).with_suffix("").parts)
    return parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts


def _is_file_of(name: str | None, file: Path) -> bool:
    return name is not None and Path(name).resolve() == file.resolve()


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino


def _shown(file: Path, here: Path) -> str:
    return str(file.relative_to(here)) if file.is_relative_to(here) else str(file)


@contextmanager
def _noting(action: str) -> Iterator[None]:
    """Add to errors from users' modules what was going on; our own say it themselves."""
    try:
        yield
    except DiscoveryError:
        raise
    except BaseException as error:
        error.add_note(f"while {action}")
        raise
