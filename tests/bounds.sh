#!/usr/bin/env bash
# Runs the tests twice, each in a fresh environment of its own: with the oldest packages that
# requirements.txt allows, and with the newest. `bounds.sh [PYTHON]`
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-python3}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed -n 's/^\([a-z0-9-]*\)>=\([^,]*\),.*/\1==\2/p' requirements.txt >"$work/oldest"
: >"$work/newest"
for end in oldest newest; do
  "$python" -m venv "$work/$end.venv"
  "$work/$end.venv/bin/pip" install --quiet --upgrade -r requirements-dev.txt -c "$work/$end" -e .
  echo "== $end: $("$work/$end.venv/bin/pip" list 2>/dev/null | grep -E 'pyarrow|dynaconf|structlog|msgspec|prometheus|h11|cryptography' | tr -s ' \n' ' ')"
  "$work/$end.venv/bin/pytest"
done
