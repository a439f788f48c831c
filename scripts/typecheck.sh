#!/bin/sh
# mypy reads a normal install: it does not follow the folder mapping of an editable one.
set -eu
python=$1
config=$PWD/pyproject.toml
target=$(mktemp -d)
trap 'rm -rf "$target"' EXIT
"$python" -m pip install -q --no-deps --target "$target" .
cp -r benchmarks tests/plugin/nextlat_ring "$target"
cd "$target"
MYPYPATH=$target "$python" -m mypy --config-file "$config" -p nextlat_bench -p benchmarks -p nextlat_ring
