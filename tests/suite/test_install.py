"""What an installation holds and asks for: declared packages, extras named where they are missing, a wheel without a clone."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from reference_impls.image_pruning.structure_lth import StructureLth
from reference_impls.parts import partition
from suite import bundle, extras, parallel, place
from suite.extras import canonical
from suite.naming import UserError
from suite.registry import HOUSE

PROJECT = tomllib.loads((HOUSE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
PACKAGES = ("suite", "tasks", "reference_impls")
#: import names whose distribution is called otherwise
CALLED = {"PIL": "pillow", "pynvml": "nvidia-ml-py", "sklearn": "scikit-learn"}
#: base packages that no module imports
USED_OTHERWISE = {
    "mkdocs": "pages.build runs it as a program",
    "mkdocs-material": "the theme that mkdocs.yml names",
}
#: files that import a package of an extra by a plain statement
BEHIND_A_QUESTION = {
    "suite/sweep.py": "a job runs where submitit began it, and elsewhere it is none of its jobs",
    "suite/standing.py": "what submitit kept of a job is read where it can be; without it the log tells",
    "tasks/graph_tickets/deploy.py": "one kernel more to choose from where PyG is installed, none missing elsewhere",
    "tasks/common/engines.py": "an engine's packages are asked for by `package` before anything is prepared for it",
    "tasks/common/films.py": "who opens a film has asked for `av`",
    "tasks/mobile_vsr/runtimes.py": "a rung's packages are asked for by `need` before it is built",
}
#: most that the wheel may have: 44 are there, 43 of them the embedded data sets, of which the photographs of vit_training are 12
MEGABYTES = 45


@dataclass(frozen=True)
class Import:
    """An import of another's package somewhere in the project."""

    file: str
    package: str  #: import name, first part
    asked: bool  #: by `need`, which says what is missing

    @property
    def distribution(self) -> str:
        return canonical(CALLED.get(self.package, self.package))


def names(requirements: list[str]) -> set[str]:
    return {canonical(found[0]) for r in requirements if (found := re.match(r"[\w.-]+", r))}


BASE = names(PROJECT["dependencies"])
EXTRAS = {extra: names(wanted) for extra, wanted in PROJECT["optional-dependencies"].items()}
ONES = {k: v for k, v in EXTRAS.items() if k not in ("all", "dev")}  #: extras that name packages, not other extras
OPTIONAL = set().union(*ONES.values())


@cache
def imports() -> tuple[Import, ...]:
    return tuple(_imports())


def _imports() -> Iterator[Import]:
    for file in sorted(f for p in PACKAGES for f in (HOUSE / p).rglob("*.py")):
        where = file.relative_to(HOUSE).as_posix()
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            found, asked = [], False
            if isinstance(node, ast.Import):
                found = [a.name for a in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found = [node.module or ""]
            elif isinstance(node, ast.Call) and _called(node) in ("need", "package", "import_module"):
                asked = _called(node) != "import_module"
                found = [a.value for a in node.args[:1] if isinstance(a, ast.Constant)]
            tops = {n.partition(".")[0] for n in found} - {*sys.stdlib_module_names, *PACKAGES}
            yield from (Import(where, top, asked) for top in tops)


def _called(node: ast.Call) -> str:
    return node.func.id if isinstance(node.func, ast.Name) else node.func.attr if isinstance(node.func, ast.Attribute) else ""


def test_every_package_that_is_imported_is_declared() -> None:
    found = imports()
    assert {"torch", "pandas", "PIL", "av", "mtkahypar", "torch_pruning"} <= {i.package for i in found}  # the search finds them
    for i in found:
        assert i.distribution in BASE | OPTIONAL, f"{i.file}: declare {i.package} in pyproject.toml"
        if i.distribution not in BASE:
            assert i.asked or i.file in BEHIND_A_QUESTION, f"{i.file}: import {i.package} by suite.extras.need"


def test_every_base_package_is_used() -> None:
    used = {i.distribution for i in imports()}
    assert BASE - used == set(USED_OTHERWISE)
    assert set(BEHIND_A_QUESTION) <= {i.file for i in imports() if i.distribution not in BASE and not i.asked}


def test_the_extra_that_is_named_installs_the_package() -> None:
    assert extras.extras() == {package: extra for extra, packages in ONES.items() for package in packages}, "install weighin again"
    assert not BASE & OPTIONAL


def test_all_has_every_extra_and_dev_what_the_tests_train_with() -> None:
    def chosen(extra: str) -> set[str]:
        (found,) = (r for r in PROJECT["optional-dependencies"][extra] if r.startswith("weighin["))
        return set(found.removeprefix("weighin[").removesuffix("]").split(","))

    assert chosen("all") == set(ONES)
    assert chosen("dev") == set(ONES) - {"mobile"}  # runtimes that are large


@pytest.mark.parametrize("package", sorted({i.package for i in imports() if i.distribution in OPTIONAL}))
def test_what_is_missing_is_said_in_one_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError) as told:
        extras.need(package, "this method")
    assert str(told.value).startswith(f"this method needs the package {package}, ")
    assert str(told.value).endswith(f"; pip install 'weighin[{extras.extras()[canonical(package)]}]'")
    assert "\n" not in str(told.value)


class Untouched:
    """A problem that nothing has begun to solve."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked for")


def test_what_a_method_or_an_option_lacks_is_said_before_any_training(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("mtkahypar", "lightning_fabric"):
        monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=r"mode=regroup needs .*weighin\[pruning\]"):
        StructureLth(mode="regroup").solve(Untouched())  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="model was asked for"):
        StructureLth(mode="refill").solve(Untouched())  # type: ignore[arg-type]
    partition._library.cache_clear()
    with pytest.raises(UserError, match=r"weighin\[pruning\]"):
        partition._library()
    with pytest.raises(UserError, match=r"--processes needs .*weighin\[processes\]"):
        parallel.launch(2, "cpu")


# -- outside a clone ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Installed:
    """A wheel in an environment with the base packages alone, and a folder with bundles in it to stand in."""

    archive: Path
    wheel: Path
    python: Path
    folder: Path

    def call(self, *words: str) -> subprocess.CompletedProcess[str]:
        return _run([self.python.with_name("weighin"), *words], self.folder)


def _run(command: list[Any], cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that knows nothing of the clone: neither by its folder nor by its environment."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and not k.startswith("WEIGHIN_")}
    clean = {**kept, "COLUMNS": "200", "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run([str(c) for c in command], cwd=cwd, env=clean, capture_output=True, text=True, timeout=300)


def _done(command: list[Any], cwd: Path) -> str:
    done = _run(command, cwd)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel is built from the source archive, so that this one is whole, and without network."""
    root = tmp_path_factory.mktemp("installed")
    _done([sys.executable, "-m", "hatchling", "build", "--target", "sdist", "--directory", root], HOUSE)
    (archive,) = root.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    _done([*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", root, archive], root)
    (wheel,) = root.glob("*.whl")
    venv.create(root / "environment", symlinks=True)
    python = root / "environment" / "bin" / "python"
    _done([*pip, "--python", python, "install", "--no-deps", "--no-compile", wheel], root)
    packages = Path(_done([python, "-c", "import sysconfig; print(sysconfig.get_paths()['purelib'])"], root).strip())
    # A folder that a .pth file names is searched, but its own .pth files are not read: an editable weighin there is not found.
    others = [p for p in sys.path if Path(p).name in ("site-packages", "dist-packages")]
    (packages / "dependencies.pth").write_text("\n".join(others) + "\n")
    hidden = [p.replace("-", "_") for p in OPTIONAL]
    (packages / "base_alone.pth").write_text(f"import sys; sys.modules.update(dict.fromkeys({hidden}))\n")
    folder = root / "elsewhere"
    for kind in ("image_pruning/small/dense", "image_pruning/small/l1_filters", "mobile_vsr/small/stdo"):
        source = sorted((HOUSE / "results" / kind).iterdir())[0]
        shutil.copytree(source, folder / "results" / kind / source.name)
        for card in bundle.read(source).systems.values():
            (folder / "results" / "systems").mkdir(exist_ok=True)
            shutil.copy(HOUSE / "results" / "systems" / f"{card}.json", folder / "results" / "systems")
    return Installed(archive, wheel, python, folder)


def test_a_wheel_holds_the_packages_their_data_and_the_site_and_nothing_else(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as file:
        held = {n for n in file.namelist() if not n.startswith("weighin-")}
    wanted = {f.relative_to(HOUSE).as_posix() for p in PACKAGES for f in (HOUSE / p).rglob("*") if f.is_file()}
    wanted = {f for f in wanted if "__pycache__" not in f}
    inside = place.PACKAGED.relative_to(HOUSE).as_posix()
    sources = [HOUSE / "mkdocs.yml", HOUSE / "CHANGELOG.md", *(f for f in (HOUSE / "site" / "docs").rglob("*") if f.is_file())]
    assert held == wanted | {f"{inside}/{f.relative_to(HOUSE).as_posix()}" for f in sources}
    endings = {Path(n).suffix for n in held}
    assert {".py", ".toml", ".npz", ".mp4", ".jpg", ".sql", ".j2", ".typed", ".woff2"} <= endings
    assert not endings & {".pyc", ".parquet", ".json"}
    assert installed.wheel.stat().st_size < MEGABYTES * 1e6


def test_a_source_archive_holds_no_tests_and_no_results(installed: Installed) -> None:
    with tarfile.open(installed.archive) as file:
        tops = {n.split("/")[1] for n in file.getnames()}
    assert tops >= {*PACKAGES, "site", "mkdocs.yml", "pyproject.toml", "hatch_build.py", "README.md", "LICENSE"}
    assert not tops & {"tests", "results", "build", "shared", ".ci", ".github", ".venv"}
    assert installed.archive.stat().st_size < MEGABYTES * 1e6


def test_an_installed_wheel_makes_a_board_from_a_folder_of_bundles(installed: Installed) -> None:
    code = "import suite, tasks, reference_impls as r; print(suite.__file__, tasks.__file__, r.__file__)"
    for file in _done([installed.python, "-P", "-c", code], installed.folder).split():
        assert Path(file).is_relative_to(installed.python.parent.parent), "the clone's packages, not the wheel's"
    checked = installed.call("check", "results")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "3 bundles, 0 errors" in checked.stdout
    published = installed.call("publish")
    assert published.returncode == 0, published.stderr
    assert "new 3" in published.stdout
    made = installed.call("site")
    assert made.returncode == 0, made.stderr
    site = installed.folder / "build" / "site"
    for page, words in {
        "index.html": "image_pruning",
        "tasks/image_pruning-small.html": "l1_filters",
        "tasks/mobile_vsr-small.html": "stdo",
        "methods/depgraph.html": "DepGraph",  # described without the package that it needs
        "run.html": "weighin site",
    }.items():
        assert words in (site / page).read_text(encoding="utf-8"), page
    for file in ("assets/board.css", "assets/weighin-sans.woff2", "data/weighin.duckdb"):
        assert (site / file).stat().st_size, file
    assert {p.name for p in installed.folder.iterdir()} == {"results", "build"}  # nothing else is written


@pytest.mark.parametrize("words", [("check", "nowhere"), *((c, "--results", "nowhere") for c in ("publish", "site", "claims"))])
def test_an_installed_command_says_in_one_line_that_a_folder_is_missing(words: tuple[str, ...], installed: Installed) -> None:
    done = installed.call(*words)
    assert done.returncode == 2
    assert re.fullmatch(r"error: no (file or )?folder nowhere; .*\n", done.stderr)


@pytest.mark.parametrize(
    ("words", "extra"),
    [(("image_pruning", "-m", "depgraph"), "pruning"), (("mobile_vsr", "-m", "stdo"), "video")],
)
def test_a_run_without_the_extra_it_needs_ends_before_it_starts(words: tuple[str, ...], extra: str, installed: Installed) -> None:
    done = installed.call("run", *words, "--tier", "smoke", "--out", "runs")
    assert done.returncode == 2
    assert re.fullmatch(rf"error: .* needs the package .*; pip install 'weighin\[{extra}\]'\n", done.stderr)
    assert not (installed.folder / "runs").exists()


def test_an_installed_copy_lists_all_tasks_and_a_clone_knows_that_it_is_one(installed: Installed) -> None:
    listed = installed.call("list")
    assert listed.returncode == 0, listed.stderr
    for name in ("graph_tickets", "image_pruning", "mobile_vsr", "depgraph", "chex"):
        assert name in listed.stdout
    # although the environment lies in somebody's repository
    around = installed.wheel.parent
    someone = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    _done(["git", "init", "--quiet"], around)
    _done(["git", *someone, "commit", "--quiet", "--allow-empty", "-m", "theirs"], around)
    told = _done([installed.python, "-P", "-c", "from suite import place, runner; print(place.clone(), runner._source())"], around)
    nothing = {"weighin": PROJECT["version"], "commit": None, "dirty": None}
    assert told == f"None {nothing}\n"
    assert place.clone() == place.site_sources() == HOUSE
