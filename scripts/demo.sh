#!/usr/bin/env bash
# A first run, from nothing to a result: starts the three services on free ports, writes synthetic
# bars, runs the models of models/ over them through gRPC, and stops everything again.
#
# Leaves demo-home/ (bars, operations) and demo-result/ (one folder for each run). May be run as
# often as one likes; `make clean` removes both.
set -euo pipefail
cd -P "$(dirname "$0")/.."

backlane=${BACKLANE:-.venv/bin/backlane}
result=$PWD/demo-result
export BACKLANE_HOME=$PWD/demo-home
# Addresses from outside would lead to other services.
unset BACKLANE_OPERATIONS_ADDRESS BACKLANE_MODELS_ADDRESS BACKLANE_BACKTESTS_ADDRESS
start_deadline_s=120
stop_deadline_s=40
up_pid=

say() { printf '\n==> %s\n' "$*"; }
is_running() { kill -0 "$1" 2>/dev/null; }

# Each service leads a process group of its own, whose number it tells in up.json.
kill_services() {
  local pid
  for pid in $(grep -o '"pids": {[^}]*}' "$BACKLANE_HOME/up.json" 2>/dev/null | grep -o '[0-9]\+' || true); do
    kill -KILL -- "-$pid" 2>/dev/null || true
  done
}

stop() {
  local code=$? waited=0
  trap - EXIT INT TERM
  if [ -n "$up_pid" ] && is_running "$up_pid"; then
    say "stopping the services"
    kill -TERM -- "-$up_pid" 2>/dev/null || true
    while is_running "$up_pid" && [ "$waited" -lt $((stop_deadline_s * 10)) ]; do
      sleep 0.1
      waited=$((waited + 1))
    done
    if is_running "$up_pid"; then
      kill -KILL -- "-$up_pid" 2>/dev/null || true
      kill_services
    fi
    wait "$up_pid" 2>/dev/null || true
  fi
  if [ "$code" -ne 0 ]; then
    printf 'demo: failed with exit code %s\n' "$code" >&2
    [ ! -s "$BACKLANE_HOME/up.log" ] || { echo "demo: the services said:" >&2; tail -n 20 "$BACKLANE_HOME/up.log" >&2; }
  fi
  exit "$code"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start_services() {
  local waited=0
  mkdir -p "$BACKLANE_HOME"
  rm -f "$BACKLANE_HOME/up.json" # else an earlier one would look like readiness
  set -m # the services get a process group of their own
  "$backlane" up --port 0 --models-dir models --json \
    > "$BACKLANE_HOME/up.json" 2> "$BACKLANE_HOME/up.log" < /dev/null &
  up_pid=$!
  set +m
  until [ -s "$BACKLANE_HOME/up.json" ]; do
    is_running "$up_pid" || { echo "demo: the services did not start" >&2; exit 1; }
    [ "$waited" -lt $((start_deadline_s * 10)) ] || { echo "demo: the services are not ready" >&2; exit 1; }
    sleep 0.1
    waited=$((waited + 1))
  done
}

run() { printf '$ backlane %s\n' "$*"; "$backlane" "$@"; }

say "starting operations_service, model_service and backtest_service"
start_services
cat "$BACKLANE_HOME/run/addresses.json"

say "writing synthetic bars into the catalog"
run data sample
run model list

say "running a backtest through gRPC"
run backtest run --model rsi_bb --symbol SYNTHETIC_EURUSD --timeframe 1h --out "$result/rsi_bb"

if [ -d models/mtf_rsi_bb ]; then
  say "running a model that reads two timeframes"
  run backtest run --model mtf_rsi_bb --symbol SYNTHETIC_EURUSD --out "$result/mtf_rsi_bb"
fi

say "every run is an operation, and its stream can be read again from the beginning"
run operation list
operation=$("$backlane" operation list --limit 1 --json | grep -o 'operations/[0-9a-z-]*' | head -n 1)
run operation watch "$operation" --json | cut -c 1-160

say "the result directory"
ls -l "$result"/*
