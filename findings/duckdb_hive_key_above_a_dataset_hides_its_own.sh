#!/usr/bin/env bash
# duckdb 2.0.1 (CPython 3.11.7): of two folders `task=…` on the way to a file, read_parquet(hive_partitioning = true) takes the
# one that lies higher.  A dataset that COPY … (PARTITION_BY (task)) wrote and that reads right by itself gives, moved below a folder
# called task=old, the value `old` for every row, and a filter on its own values finds nothing, without an error or a warning.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install duckdb==2.0.1 >/dev/null 2>&1
cat >"$work/ask.py" <<'PY'
import shutil
import sys
from pathlib import Path

import duckdb

work = Path(sys.argv[1])
duckdb.execute("CREATE TABLE t AS SELECT * FROM (VALUES ('a', 1), ('b', 2)) AS v (task, value)")
duckdb.execute(f"COPY t TO '{work}/data' (FORMAT parquet, PARTITION_BY (task))")
(work / "task=old").mkdir()
shutil.copytree(work / "data", work / "task=old" / "data")
for folder in ("data", "task=old/data"):
    files = f"read_parquet('{work}/{folder}/*/*.parquet', hive_partitioning = true)"
    rows = duckdb.execute(f"SELECT task, value FROM {files} ORDER BY value").fetchall()
    print(folder, rows, duckdb.execute(f"SELECT count(*) FROM {files} WHERE task = 'a'").fetchall()[0][0])
PY
saw=$("$work/venv/bin/python" "$work/ask.py" "$work")
printf 'folder, its rows, rows of task a\n%s\n' "$saw"
[ "$saw" = "data [('a', 1), ('b', 2)] 1
task=old/data [('old', 1), ('old', 2)] 0" ]
