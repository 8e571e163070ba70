"""Finds tasks and methods: by folder here, by entry point in other packages, by file for one's own.

Listing imports nothing: a file's stem is the name, the first line of its docstring the summary, and
the paragraphs ``Paper:`` and ``Deviations:`` say where a method comes from and what was changed.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import importlib
import importlib.util
import math
import re
import sys
import tomllib
import traceback
import types
import typing
from collections.abc import Iterable, Mapping
from functools import cache, cached_property
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Literal, Protocol

from suite.naming import UserError
from suite.protocol import Method, Shapes, Task

HOUSE = Path(__file__).resolve().parent.parent  #: where suite, tasks and reference_impls stand side by side
TASKS, METHODS = HOUSE / "tasks", HOUSE / "reference_impls"


@dataclasses.dataclass(frozen=True)
class TaskRef:
    """A task that can be loaded."""

    name: str
    summary: str
    path: Path | None  #: its module's file, beside which truth.toml and claims.toml lie; None where it cannot be found

    @property
    def ours(self) -> bool:
        """Whether it is one of this project's own."""
        return self.path is not None and self.path.is_relative_to(TASKS)


@dataclasses.dataclass(frozen=True)
class MethodRef:
    """A method that can be loaded, described without importing it."""

    name: str  #: the file's stem; ``stem@<digest>`` for others' methods
    task: str
    origin: Literal["reference", "package", "file"]
    path: Path
    summary: str = ""
    paper: str = ""  #: citation; empty for a baseline
    departs: str = ""  #: what was changed from the paper

    @cached_property
    def version(self) -> str:
        """Digest of what the source and the parts it imports mean; comments and layout do not count."""
        return source_digest(self.path)

    @cached_property
    def stated(self) -> int:
        """The version that it states: goes up when a number can change."""
        return stated_version(self.path)

    @property
    def ours(self) -> bool:
        """Whether it is one of this project's own, which are imported by their names."""
        return self.origin == "reference" and self.path.is_relative_to(METHODS)

    @property
    def module(self) -> str:
        """Name to import it under, the same in every process, so that its classes unpickle."""
        if self.ours:
            return ".".join(self.path.relative_to(HOUSE).with_suffix("").parts)
        return f"weighin_file_{self.version[:16]}"


def tasks() -> dict[str, TaskRef]:
    """All tasks by name."""
    here = {
        folder.name: TaskRef(folder.name, _docstring(folder / "task.py").partition("\n")[0], folder / "task.py")
        for folder in sorted(TASKS.iterdir())
        if (folder / "task.py").is_file()
    }
    others = {e.name: _packaged(e) for e in _entries("weighin.tasks")}
    return others | here


def families() -> dict[str, str]:
    """The families of the front page, in its order, by name: their questions.

    Those of ``tasks/families.toml`` come first, which also announces families without a task yet, then other packages'.
    """
    listed = tomllib.loads((TASKS / "families.toml").read_text(encoding="utf-8"))["family"]
    known = tasks()
    announced = {f["name"]: f.get("question", "") for f in listed}
    return {name: task(name).question if name in known else announced[name] for name in dict.fromkeys([*announced, *known])}


@cache
def task(name: str) -> Task[Any, Any]:
    """The task of that name; raises UserError with the names there are."""
    known = tasks()
    if name not in known:
        raise UserError(f"no task {name!r}; there are: {', '.join(known)}")
    if not known[name].ours:
        (entry,) = (e for e in _entries("weighin.tasks") if e.name == name)
        return typing.cast("Task[Any, Any]", entry.load()())
    module = importlib.import_module(f"tasks.{name}.task")
    (found,) = (v for v in vars(module).values() if isinstance(v, type) and issubclass(v, Task) and v.__module__ == module.__name__)
    return found()


def shapes(name: str) -> Shapes | None:
    """What tells the shape of a task's Solutions: ``shapes/<task>.py`` beside our methods, or another package's own, by an entry
    point ``weighin.shapes`` named as the task; None where there is neither, so that its rows are weighed where they are solved.
    """
    if (METHODS / "shapes" / f"{name}.py").is_file():
        return typing.cast("Shapes", importlib.import_module(f"{METHODS.name}.shapes.{name}"))
    found = next((e for e in _entries("weighin.shapes") if e.name == name), None)
    return typing.cast("Shapes", found.load()) if found else None


class Asked(Protocol):
    """What names a task and one of its cases: a Spec, a bundle's record of it, a ranking."""

    @property
    def task(self) -> str: ...
    @property
    def case(self) -> str: ...


def task_of(asked: Asked) -> Task[Any, Any]:
    """The task that asks the question of a case, which may have a card of its own (`Task.of`)."""
    return task(asked.task).of(asked.case)


def methods(task_name: str) -> dict[str, MethodRef]:
    """Methods of a task by name: ours, then other packages' (entry points ``weighin.methods``, named task/method).

    Methods that come in one package with their task are its references and bear plain names, its parent among them; any
    other package's bear their digest.
    """
    folder = METHODS / task_name
    files = sorted(folder.glob("*.py")) if folder.is_dir() else []
    found = {f.stem: _describe(f, task_name, "reference") for f in files if not f.stem.startswith("_")}
    ours = (TASKS / task_name / "task.py").is_file()
    home = "" if ours else _package(e for e in _entries("weighin.tasks") if e.name == task_name)
    for entry in _entries("weighin.methods"):
        owner, _, name = entry.name.partition("/")
        spec = importlib.util.find_spec(entry.module) if owner == task_name else None
        if spec is not None and spec.origin:
            beside_task = bool(home) and _package([entry]) == home
            ref = _describe(Path(spec.origin), task_name, "reference" if beside_task else "package")
            full = name if beside_task else f"{name}@{ref.version[:12]}"
            found.setdefault(full, dataclasses.replace(ref, name=full))
    return found


def method(task_name: str, name: str) -> MethodRef:
    """A method by name, or one's own by its file (anything ending in .py)."""
    if name.endswith(".py"):
        path = Path(name).resolve()
        if not path.is_file():
            raise UserError(f"no file {name}; give the path of a Python file with one method in it")
        ref = _describe(path, task_name, "file")
        return dataclasses.replace(ref, name=f"{path.stem}@{ref.version[:12]}")
    known = methods(task_name)
    if name in known:
        return known[name]
    packaged = [k for k in known if k.partition("@")[0] == name]
    if len(packaged) == 1:
        return known[packaged[0]]
    raise UserError(f"no method {name!r} for {task_name}; there are: {', '.join(known)}; your own: --method ./file.py")


def load(ref: MethodRef) -> type[Method]:
    """Import a method's module and return its class: the one public class with ``solve``."""
    if ref.ours:
        module = importlib.import_module(ref.module)
    else:
        module = sys.modules.get(ref.module) or _import_file(ref)
    names = getattr(module, "__all__", None) or [k for k in vars(module) if not k.startswith("_")]
    classes = [v for v in (getattr(module, n) for n in names) if isinstance(v, type) and hasattr(v, "solve")]
    own = [c for c in classes if c.__module__ == module.__name__]
    if len(own) != 1:
        raise UserError(f"{ref.path}: {len(own)} public classes with a solve method; a method's file has exactly one")
    if not dataclasses.is_dataclass(own[0]) or not own[0].__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise UserError(f"{ref.path}: {own[0].__name__} is not a frozen dataclass; write @dataclass(frozen=True) above it")
    return typing.cast("type[Method]", own[0])


def configure(cls: type[Method], settings: Iterable[str] | Mapping[str, Any]) -> Method:
    """An instance with ``key=value`` settings (or stored values), checked against the fields' types."""
    import pydantic

    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    pairs = settings.items() if isinstance(settings, Mapping) else (s.partition("=")[::2] for s in settings)
    values: dict[str, Any] = {}
    for key, text in pairs:
        if key not in fields:
            raise UserError(f"{cls.__name__} has no setting {key!r}; it has: {', '.join(fields) or 'none'}")
        value = _read(text, hints[key]) if isinstance(text, str) else text
        try:
            values[key] = pydantic.TypeAdapter(hints[key]).validate_python(value)
        except pydantic.ValidationError as e:
            raise UserError(f"--set {key}={text}: {e.errors()[0]['msg']} (field of type {fields[key].type})") from e
        if isinstance(values[key], float) and not math.isfinite(values[key]):
            raise UserError(f"--set {key}={text}: is no finite number; write one such as 0.1")
    return cls(**values)


def configuration(instance: Method) -> tuple[dict[str, Any], dict[str, Any]]:
    """An instance's fields, and those fields' defaults."""
    return {f.name: getattr(instance, f.name) for f in dataclasses.fields(instance)}, defaults(type(instance))  # type: ignore[arg-type]


def defaults(cls: type[Method]) -> dict[str, Any]:
    """The defaults of a method's fields; of one that must be given, `dataclasses.MISSING`."""
    fields = dataclasses.fields(cls)  # type: ignore[arg-type]
    return {f.name: f.default_factory() if callable(f.default_factory) else f.default for f in fields}


def source_digest(path: Path, house: Path = HOUSE) -> str:
    """SHA-256 over the meaning of a method's file and of every ``reference_impls`` module it imports.

    Comments, docstrings and layout do not count; a name, a constant or a statement does.

    Args:
        house: where the modules stand that it imports: here, or in another tree.
    """
    seen = _reached([path], house, METHODS.name)
    texts = [seen[path], *(seen[f] for f in sorted(seen) if f != path)]
    return hashlib.sha256("\x00".join(texts).encode()).hexdigest()


def task_digest(task_name: str, house: Path = HOUSE) -> str:
    """SHA-256 over the meaning of a task's modules, and of every other module under ``tasks`` that these or its methods reach.

    With `source_digest` of a method it covers all that takes part in a row but the harness, libraries and data.
    """
    own, methods = house / TASKS.name / task_name, house / METHODS.name / task_name
    ref = tasks().get(task_name)
    if ref and not ref.ours:  # another package's: the modules of its folder
        seen = _reached(ref.path.parent.glob("*.py") if ref.path else [], house, TASKS.name)
        texts = [seen[f] for f in sorted(seen)]
    else:
        seen = _reached([*own.rglob("*.py"), *methods.glob("*.py")], house, TASKS.name, METHODS.name)
        texts = [f"{f.relative_to(house).as_posix()}\x00{seen[f]}" for f in sorted(seen) if f.is_relative_to(house / TASKS.name)]
    return hashlib.sha256("\x00".join(texts).encode()).hexdigest()


@cache
def code_digest() -> str:
    """SHA-256 over all of this code, harness included: what two runs need to have in common to be one run."""
    files = sorted(f for folder in (HOUSE / "suite", TASKS, METHODS) for f in folder.rglob("*.py"))
    return hashlib.sha256(
        "\x00".join(f"{f.relative_to(HOUSE)}\x00{f.read_text(encoding='utf-8')}" for f in files).encode()
    ).hexdigest()


def stated_version(path: Path) -> int:
    """The ``version`` that a class of a file states, read without importing it; 1 where none does."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        for line in node.body if isinstance(node, ast.ClassDef) else ():
            target = line.target if isinstance(line, ast.AnnAssign) else line.targets[0] if isinstance(line, ast.Assign) else None
            if isinstance(target, ast.Name) and target.id == "version":
                value = line.value  # type: ignore[attr-defined]
                if not isinstance(value, ast.Constant) or type(value.value) is not int or value.value < 1:
                    raise UserError(f"{path}: write its version as a whole number from 1 on: version: ClassVar[int] = 1")
                return value.value
    return 1


def _reached(start: Iterable[Path], house: Path, *folders: str) -> dict[Path, str]:
    """The meaning of files and of all modules in these folders that they import, by file."""
    seen: dict[Path, str] = {}
    modules: dict[str, list[Path]] = {}  # a module is imported by many files
    todo = list(start)
    while todo:
        file = todo.pop()
        if file not in seen:
            seen[file], imports = _parsed(file.read_text(encoding="utf-8"))
            for name in {_absolute(n, file, house) for n in imports}:
                if name not in modules:
                    modules[name] = _files(name, house) if name.partition(".")[0] in folders else []
                todo += modules[name]
    return seen


def _files(name: str, house: Path) -> list[Path]:
    """The files that a module's import runs, and those of packages around it."""
    place = house / name.replace(".", "/")
    found = [module] if (module := place.with_name(f"{place.name}.py")).is_file() else []
    # a package's own file counts where it is imported from, and else where it does something
    if (package := place / "__init__.py").is_file() and package.stat().st_size:
        found.append(package)
    above = [house.joinpath(*place.relative_to(house).parts[:i], "__init__.py") for i in range(1, name.count(".") + 1)]
    return found + [f for f in above if f.is_file() and _parsed(f.read_text(encoding="utf-8"))[0] != _parsed("")[0]]


def _absolute(name: str, file: Path, house: Path) -> str:
    """A module's name without leading dots, which count from the file that imports it."""
    dots = len(name) - len(name.lstrip("."))
    if not dots or not file.is_relative_to(house):
        return name
    return ".".join([*file.relative_to(house).parts[:-dots], name[dots:]])


@cache
def _parsed(source: str) -> tuple[str, tuple[str, ...]]:
    """What a source means, and the names of modules (and of what may be modules) that it imports."""
    tree = ast.parse(source)
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            joint = "." if node.module else ""
            names += [*([module] if node.module else []), *(f"{module}{joint}{a.name}" for a in node.names)]
    return _written(tree), tuple(names)


def meaning(source: str) -> str:
    """The syntax tree as text, without docstrings, positions and whatever Python versions write differently."""
    return _written(ast.parse(source))


#: fields that say nothing of the meaning: a name's context follows from its place, and newer versions add more that are empty
_SILENT = frozenset({"ctx", "kind", "type_comment"})
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@cache
def _fields_of(kind: Any) -> tuple[tuple[str, str], ...]:
    return tuple((name, f"{name}=") for name in sorted(kind._fields) if name not in _SILENT)


def _written(node: Any) -> str:
    if isinstance(node, ast.Constant):
        return f"{type(node.value).__name__}:{node.value!r}"
    if isinstance(node, ast.AST):
        kind: Any = type(node)
        parts = []
        for name, head in _fields_of(kind):
            value: Any = getattr(node, name, None)
            if name == "body" and kind in _DOCUMENTED and _documented(value):
                value = value[1:]
            if value is not None and value != []:
                parts.append(head + _written(value))
        return f"{kind.__name__}({','.join(parts)})"
    if isinstance(node, list):
        return f"[{','.join(map(_written, node))}]"
    return repr(node)


def _documented(body: list[ast.stmt]) -> bool:
    """Whether statements begin with a docstring."""
    first = body[0] if body else None
    return isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)


def house_file(module: str, *folders: Path) -> Path | None:
    """The file of a module in one of these folders of the house; None where it is no such module."""
    file = HOUSE / (module.replace(".", "/") + ".py")
    return file if module.partition(".")[0] in {f.name for f in folders} and file.is_file() else None


def _entries(group: str) -> tuple[EntryPoint, ...]:
    """Other packages' entry points."""
    return _entries_on(group, tuple(sys.path))


@cache
def _entries_on(group: str, path: tuple[str, ...]) -> tuple[EntryPoint, ...]:
    """To find them reads a file of every installed package: once a path."""
    return tuple(entry_points(group=group))


def _packaged(entry: EntryPoint) -> TaskRef:
    """A task of another package, its module not imported (what it lies in is)."""
    try:
        spec = importlib.util.find_spec(entry.module)
    except ModuleNotFoundError:
        spec = None
    path = Path(spec.origin) if spec is not None and spec.origin else None
    return TaskRef(entry.name, _docstring(path).partition("\n")[0] if path else entry.value, path)


def _package(entries: Iterable[EntryPoint]) -> str:
    """The name of the package that brings the first of these; empty where there is none."""
    return next((e.dist.name for e in entries if e.dist is not None), "")


def _describe(path: Path, task_name: str, origin: Literal["reference", "package", "file"]) -> MethodRef:
    summary, _, rest = _docstring(path).partition("\n")
    said = {}
    for paragraph in rest.split("\n\n"):
        head, _, words = " ".join(paragraph.split()).partition(": ")
        said[head] = without_sheets(words)
    departs = said.get("Deviations", said.get("Departs", ""))  # the second is how methods called it at first
    return MethodRef(path.stem, task_name, origin, path, summary, said.get("Paper", ""), departs)


def without_sheets(text: str) -> str:
    """Without references such as `(notes.md 2.3)`: they are for who reads the source beside the notes that it was written from."""
    return re.sub(r" ?\(\w+\.md [\d., and]+\)", "", text)


def _docstring(path: Path) -> str:
    try:
        return _docstring_of(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: not a Python file that can be read: {e}") from e


@cache
def _docstring_of(source: str) -> str:
    return ast.get_docstring(ast.parse(source)) or ""


class NotImportable(UserError):
    """A method's file that raises when it is imported."""


def _import_file(ref: MethodRef) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(ref.module, ref.path)
    if spec is None or spec.loader is None:
        raise UserError(f"{ref.path}: cannot be imported; give a plain .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[ref.module] = module
    try:
        spec.loader.exec_module(module)
    except UserError:
        raise
    except Exception as e:  # a stranger's file may raise anything
        del sys.modules[ref.module]
        last = traceback.extract_tb(e.__traceback__)[-1]
        raise NotImportable(f"{ref.path}: cannot be imported: {type(e).__name__}: {e} (line {last.lineno}); mend the file") from e
    return module


def _read(text: str, hint: Any) -> Any:
    """A setting's text as a value where validation would not take it for one: None, and choices that are no words."""
    inner = typing.get_args(hint)
    if type(None) in inner and text.lower() == "none":
        return None
    choices = inner if typing.get_origin(hint) is Literal else ()
    return next((c for c in choices if str(c) == text), text)
