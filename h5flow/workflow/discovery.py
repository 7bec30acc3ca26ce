"""Finding the class that a workflow names: by parsing, so that only the module that defines it is executed."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from h5flow.errors import DiscoveryError

_MODULES = "h5flow_modules"
_PASSED_OVER = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})


def get_class(classname: str, path: str | None = None) -> type[Any]:
    """The class of that name: in the module `path`, or where it is found.

    It is looked for in files of the working directory, in `h5flow_modules/`, in the subdirectories of both, and
    among the built-in modules. Raises `DiscoveryError` if there is none, or two in the same place.
    """
    _make_importable(Path.cwd())
    if path is not None:
        return _member(_imported(path, classname), classname)
    for folders in _search_order(Path.cwd()):
        files = [file for folder in folders for file in _python_files(folder)]
        found = _defined_in(files, classname)
        if found is not None:
            return _member(_module_of(found), classname)
    raise DiscoveryError(
        f"class '{classname}' isn't defined in the working directory, in {_MODULES}/, in their subdirectories or among"
        " the built-in modules; say where it is with 'path'"
    )


def find_class(classname: str, directory: str) -> type[Any] | None:
    """The class of that name defined by a file of a directory, `None` where there is none."""
    _make_importable(Path.cwd())
    found = _defined_in(list(_python_files(directory)), classname)
    return None if found is None else _member(_module_of(found), classname)


def _search_order(top: Path) -> Iterator[list[str]]:
    """The folders to search: those of one list before those of the next."""
    modules = top / _MODULES
    yield [str(top)]
    yield [str(modules)]
    yield [folder for folder in _below(top) if folder != str(modules)]
    yield [str(Path(__file__).parent.parent / "modules")]


def _below(top: Path) -> Iterator[str]:
    """All folders below one that may hold a user's modules."""
    for folder, names, _ in os.walk(top):
        names[:] = sorted(
            name
            for name in names
            if name not in _PASSED_OVER
            and not name.startswith(".")
            and not os.path.exists(os.path.join(folder, name, "pyvenv.cfg"))  # noqa: PTH110, PTH118
        )
        if folder != str(top):
            yield folder


def _python_files(folder: str) -> Iterator[str]:
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.name.endswith(".py") and entry.is_file())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return
    for name in names:
        yield f"{folder}{os.sep}{name}"


def _defined_in(files: list[str], classname: str) -> str | None:
    """The one file that defines a class."""
    found = [file for file in files if _defines(file, classname)]
    if len(found) > 1:
        names = " and ".join(f"'{os.path.relpath(file)}'" for file in found)
        raise DiscoveryError(f"class '{classname}' is defined in {names}; say which with 'path'")
    return found[0] if found else None


def _defines(file: str, classname: str) -> bool:
    try:
        with open(file, "rb", buffering=0) as opened:  # noqa: PTH123 - called for every file of a directory
            source = opened.read()
    except OSError:
        return False
    name = classname.encode()
    # Parsing takes a hundred times as long as this.
    if name not in source or not re.search(rb"^[ \t]*class[ \t]+" + re.escape(name) + rb"\b", source, re.MULTILINE):
        return False
    import ast

    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.ClassDef) and node.name == classname for node in _top_level(tree.body))


def _top_level(body: list[Any]) -> Iterator[Any]:
    """The statements of a module, also those under `if`, `try` and `with`."""
    for node in body:
        yield node
        for inner in ("body", "orelse", "finalbody"):
            if type(node).__name__ in ("If", "Try", "With"):
                yield from _top_level(getattr(node, inner, []))
        for handler in getattr(node, "handlers", []):
            yield from _top_level(handler.body)


def _module_of(file: str) -> ModuleType:
    """The module that a file holds; imported under the name that `path` would give it, if it can be."""
    location = Path(file).resolve()
    for top in (Path.cwd().resolve(), Path(__file__).resolve().parents[2]):
        if not location.is_relative_to(top):
            continue
        parts = location.relative_to(top).with_suffix("").parts
        name = ".".join(parts).removesuffix(".__init__")
        known = sys.modules.get(name)
        if known is not None and _is_from(known, location):
            return known
        if known is None and not any("." in part for part in parts) and _would_import(name, location):
            return importlib.import_module(name)
    return _loaded(location)


def _would_import(name: str, location: Path) -> bool:
    """Whether importing `name` would execute this very file."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, AttributeError, ValueError):
        return False
    return spec is not None and spec.origin is not None and Path(spec.origin).resolve() == location


def _is_from(module: ModuleType, location: Path) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).resolve() == location


def _loaded(location: Path) -> ModuleType:
    """A file whose name another module has, loaded once under a name of its own."""
    name = f"h5flow_module:{location}"
    known = sys.modules.get(name)
    if known is not None:
        return known
    spec = importlib.util.spec_from_file_location(name, location)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _imported(path: str, classname: str) -> ModuleType:
    """The module `path`."""
    file = Path.cwd().joinpath(*path.split(".")).with_suffix(".py") if path else Path()
    known = sys.modules.get(path)
    if known is not None and file.is_file() and not _is_from(known, file.resolve()):
        return _loaded(file.resolve())
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name is not None and (path == error.name or path.startswith(error.name + ".")):
            raise DiscoveryError(
                f"module '{path}', which should define class '{classname}', isn't found from '{Path.cwd()}'"
            ) from error
        error.add_note(f"while importing module '{path}' for class '{classname}'")
        raise


def _member(module: ModuleType, classname: str) -> type[Any]:
    found = getattr(module, classname, None)
    if isinstance(found, type):
        return found
    from difflib import get_close_matches

    close = get_close_matches(classname, [name for name in vars(module) if isinstance(vars(module)[name], type)], 1)
    hint = f" (did you mean '{close[0]}'?)" if close else ""
    raise DiscoveryError(f"module '{module.__name__}' has no class '{classname}'{hint}")


def _make_importable(folder: Path) -> None:
    """Have modules of the working directory found, however the program was started."""
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
        importlib.invalidate_caches()
