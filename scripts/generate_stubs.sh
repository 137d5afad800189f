#!/usr/bin/env bash
# Generates services/backlane/api from protos/. `--check` compares only, and says what to run.
#
# The generator is pinned low on purpose: code of grpcio-tools 1.81.1 loads on protobuf 6 and 7,
# code of a newer one refuses the older runtime. It lives in a venv of its own for that reason.
set -euo pipefail
cd "$(dirname "$0")/.."
tools=.tools/protoc
pins="grpcio-tools==1.81.1 protobuf==6.33.5 mypy-protobuf==5.1.0 setuptools"
# A virtual environment cannot move: one of another folder is made anew.
wanted="$PWD $pins"
if [ "$(cat "$tools/.setup" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$tools"
  "${PYTHON:-python3}" -m venv "$tools"
  # shellcheck disable=SC2086
  "$tools/bin/python" -m pip install -qq --disable-pip-version-check $pins
  printf '%s\n' "$wanted" > "$tools/.setup"
fi
out=services
if [ "${1:-}" = --check ]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
rm -rf "$out/backlane/api"
# shellcheck disable=SC2046
PATH="$PWD/$tools/bin:$PATH" "$tools/bin/python" -W ignore -m grpc_tools.protoc -I protos \
  --python_out="$out" --grpc_python_out="$out" --mypy_out=quiet:"$out" --mypy_grpc_out=quiet:"$out" \
  $(find protos/backlane -name '*.proto' | LC_ALL=C sort)
find "$out/backlane/api" -type d | while read -r folder; do
  printf '"""Generated from protos/ by `make protos`: never edited."""\n' > "$folder/__init__.py"
done
if [ "${1:-}" = --check ]; then
  if ! diff -rq -x __pycache__ "$out/backlane/api" services/backlane/api; then
    echo "The stubs are not what protos/ says. Run: make protos" >&2
    exit 1
  fi
fi
