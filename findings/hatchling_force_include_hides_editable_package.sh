#!/usr/bin/env bash
# hatchling 1.32.0 with editables 0.6 (CPython 3.11.7, pip 23.2.1): a wheel's `force-include` into a package is carried out by an *editable* install too, as real files in
# site-packages. The folder it makes there has no __init__.py, yet it is found before the source tree that the editable install points
# to by an import hook (`dev-mode-exact`), so the package imports as an empty namespace: no attribute of it is left. The same project
# without force-include, and the same wheel installed normally, import as they should.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
pip="$work/venv/bin/python -m pip --disable-pip-version-check --quiet"
$pip install hatchling==1.32.0 editables==0.6 >/dev/null 2>&1

project() {  # NAME FORCE_INCLUDE
  mkdir -p "$work/$1/$1"
  echo 'WORD = "here"' >"$work/$1/$1/__init__.py"
  echo 'notes' >"$work/$1/notes.txt"
  cat >"$work/$1/pyproject.toml" <<TOML
[build-system]
requires = ["hatchling==1.32.0"]
build-backend = "hatchling.build"
[project]
name = "$1"
version = "1"
[tool.hatch.build]
dev-mode-exact = true
[tool.hatch.build.targets.wheel]
packages = ["$1"]
$2
TOML
}
ask() { (cd / && "$work/venv/bin/python" -c "import $1; print(getattr($1, 'WORD', 'no attribute'), $1.__file__ is not None)" 2>&1 | tail -n 1); }

project plain ''
project forced '[tool.hatch.build.targets.wheel.force-include]
"notes.txt" = "forced/data/notes.txt"'
$pip install --no-build-isolation --no-deps --editable "$work/plain" 2>/dev/null
$pip install --no-build-isolation --no-deps --editable "$work/forced" 2>/dev/null
plain=$(ask plain) forced=$(ask forced)
$pip uninstall --yes forced >/dev/null 2>&1
$pip install --no-build-isolation --no-deps "$work/forced" 2>/dev/null
wheel=$(ask forced)
printf 'editable without force-include: %s\neditable with force-include:    %s\nwheel with force-include:       %s\n' "$plain" "$forced" "$wheel"
[ "$plain" = 'here True' ] && [ "$forced" = 'no attribute False' ] && [ "$wheel" = 'here True' ]
