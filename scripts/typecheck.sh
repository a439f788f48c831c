#!/bin/sh
# mypy reads a normal install: it does not follow the folder mapping of an editable one.
set -eu
python=$1
target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT
"$python" -m pip install -q --no-deps --no-build-isolation --target "$target" . 2>/dev/null ||
    "$python" -m pip install -q --no-deps --target "$target" .
cd "$target"
MYPYPATH=$target "$python" -m mypy --config-file "$OLDPWD/pyproject.toml" -p nextlat_bench
