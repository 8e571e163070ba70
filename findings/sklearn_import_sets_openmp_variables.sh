#!/usr/bin/env bash
# scikit-learn 1.9.1 (CPython 3.11): `import sklearn` writes KMP_DUPLICATE_LIB_OK=True and KMP_INIT_AT_FORK=FALSE into the
# environment of the importing process (where they were unset), not into a setting of its own.  Every process started afterwards
# inherits them, and whoever records the environment to describe a machine, or keys a cache by it, gets another answer before
# and after that import: the same computer looks like two.  numpy, scipy and pandas, imported first, change nothing.
# Exits 0 while that is so, 1 when it changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check --quiet install scikit-learn==1.9.1 pandas==3.1.1 >/dev/null 2>&1
saw=$(env -u KMP_DUPLICATE_LIB_OK -u KMP_INIT_AT_FORK "$work/venv/bin/python" -c '
import os, subprocess, sys
for name in ("numpy", "scipy.sparse", "pandas", "sklearn"):
    before = dict(os.environ)
    __import__(name)
    print(name, *(f"{k}={v}" for k, v in sorted(os.environ.items()) if before.get(k) != v))
ask = "import os; print(*sorted(k for k in os.environ if k.startswith(\"KMP_\")))"
print("a process started now has", subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True).stdout.strip())
')
printf '%s\n' "$saw"
[ "$saw" = "numpy
scipy.sparse
pandas
sklearn KMP_DUPLICATE_LIB_OK=True KMP_INIT_AT_FORK=FALSE
a process started now has KMP_DUPLICATE_LIB_OK KMP_INIT_AT_FORK" ]
