#!/usr/bin/env bash
# Makes .venv and installs everything into it. Does nothing when nothing has changed.
#
# torch comes first, as its CPU build, by exact version: what depends on torch would otherwise pull
# the CUDA build from PyPI, which is gigabytes. The configured index answers at once whether it has
# that build; only when it has not is the official CPU index asked.
set -euo pipefail
cd -P "$(dirname "$0")/.."

venv=.venv
stamp=$venv/.setup-digest
torch_cpu_index=https://download.pytorch.org/whl/cpu/torch/

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$@" >&2; exit 1; }

# What an installation depends on: the two files, this script, and the folder (a venv cannot move).
digest() { { printf '%s\n' "$PWD"; cat pyproject.toml constraints.txt scripts/setup.sh; } | cksum; }

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3}; do
    if is_new_enough "$candidate"; then
      command -v "$candidate"
      return
    fi
  done
  fail "no Python 3.11 or newer found (looked for: ${PYTHON:-python3.11, python3.12, python3.13, python3})." \
    "Install it (Debian, Ubuntu: apt-get install python3.11 python3.11-venv) or name it: make setup PYTHON=/path/to/python3.11"
}

make_venv() {
  local python version
  python=$(find_python)
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  "$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || fail \
    "$python cannot make virtual environments: its ensurepip module is missing." \
    "Debian, Ubuntu: apt-get install python$version-venv"
  say "making $venv with Python $version ($python)"
  "$python" -m venv --clear "$venv"
}

install_packages() {
  local pip=("$venv/bin/python" -m pip --disable-pip-version-check -qq) torch
  torch=$(sed -n 's/^\(torch==[0-9.]*+cpu\).*/\1/p' constraints.txt)
  "${pip[@]}" install --upgrade pip
  if [ "$(uname -s)" = Linux ]; then
    say "installing $torch"
    "${pip[@]}" install "$torch" 2>/dev/null \
      || "${pip[@]}" install "$torch" --find-links "$torch_cpu_index" \
      || fail "cannot install $torch, neither from the configured index nor from $torch_cpu_index." \
        "Check the network, or point pip at a folder that holds the wheel: PIP_FIND_LINKS=/path make setup"
  fi
  say "installing backlane, its extras and the development tools"
  "${pip[@]}" install --constraint constraints.txt --editable ".[all,dev]" \
    || fail "the installation failed: pip says why above. Nothing is lost, run it again: make setup"
}

wanted=$(digest)
if [ -x "$venv/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
  exit 0
fi
started=$SECONDS
# A venv of another folder or of a Python that is gone is made anew; else it is brought up to date.
if ! is_new_enough "$venv/bin/python" || ! "$venv/bin/python" -m pip --version >/dev/null 2>&1 \
  || ! grep -q "VIRTUAL_ENV=.*$PWD/$venv" "$venv/bin/activate"; then
  make_venv
fi
rm -f "$stamp"
install_packages
printf '%s\n' "$wanted" > "$stamp"
say "ready after $((SECONDS - started)) s"
