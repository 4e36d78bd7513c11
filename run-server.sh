#!/usr/bin/env bash
# Serves with the files in config/ from .venv (made by `make dev` or `make prod`).
# Options go through to `flexhost start`, for example: ./run-server.sh --dev-log
set -euo pipefail
cd "$(dirname "$0")"
[ -x .venv/bin/python ] || {
  echo "run-server.sh: there is no .venv here: run 'make prod' (or 'make dev') first" >&2
  exit 1
}
export PYTHONPATH="$PWD/src${PYTHONPATH:+:$PYTHONPATH}"
exec .venv/bin/python -m flexhost start --config config/*.config.toml "$@"
