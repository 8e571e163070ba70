#!/usr/bin/env bash
# zensical 0.0.73 (CPython 3.11.7, Linux x86_64): a mkdocs.yml whose `docs_dir` is an absolute path ends in a panic of its Rust
# part ("invariant: Id(Format(Path(RootDir)))") and a traceback, although the folder lies beside mkdocs.yml. MkDocs 1.6.1 builds the
# same file. Zensical builds it once docs_dir is relative; an absolute `site_dir` there is taken, and one outside of the folder is
# refused in one line. Who generates a mkdocs.yml with the absolute folders that MkDocs takes meets the panic.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install zensical==0.0.73 mkdocs==1.6.1 >/dev/null 2>&1

project() {  # NAME DOCS_DIR SITE_DIR
  mkdir -p "$work/$1/docs"
  echo '# Here' >"$work/$1/docs/index.md"
  printf 'site_name: here\ndocs_dir: %s\nsite_dir: %s\n' "$2" "$3" >"$work/$1/mkdocs.yml"
}
told() {  # BUILDER NAME: whether a page was made, or the line that says why not
  local said
  said=$(cd "$work/$2" && "$work/venv/bin/python" -m "$1" build --config-file mkdocs.yml 2>&1 || true)
  if [ -f "$work/$2/site/index.html" ]; then echo 'built'; else grep -oE 'invariant: .*|Error: .*' <<<"$said" | tail -n 1; fi
}

project docs "$work/docs/docs" site
project site docs "$work/site/site"
project relative docs site
project outside docs ../elsewhere
panic='invariant: Id(Format(Path(RootDir)))'
docs=$(told zensical docs) site=$(told zensical site) relative=$(told zensical relative) outside=$(told zensical outside) mkdocs=$(told mkdocs docs)
printf 'absolute docs_dir:      %s\nabsolute site_dir:      %s\nboth relative:          %s\nsite_dir outside:       %s\nmkdocs, absolute docs_dir: %s\n' \
  "$docs" "$site" "$relative" "$outside" "$mkdocs"
[ "$docs" = "$panic" ] && [ "$site" = built ] && [ "$relative" = built ] && [ "$outside" = 'Error: site_dir must be within project root' ] && [ "$mkdocs" = built ]
