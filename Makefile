# `make` alone lists the targets. Everything runs from .venv, which is made when it is missing or
# older than the requirements files.
PYTHON ?= python3
BIN := .venv/bin
.DEFAULT_GOAL := help

.PHONY: help dev prod dev-server test test-host test-bounds reference check proto mypy format-fix fix-staged bench bench-profile bench-full bench-results bench-parameters bench-exchange udf-servers fuzz load soak docker clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

dev: .venv/dev .secrets ## make .venv with everything, and .secrets
	@[ ! -d .git ] || $(BIN)/pre-commit install >/dev/null

prod: ## make .venv with the runtime packages only
	@[ ! -e .venv/dev ] || rm -rf .venv
	@$(MAKE) --no-print-directory .venv/prod

dev-server: .venv/dev ## serve the functions of config/ on 127.0.0.1:17001, anew after each save
	@PYTHONPATH=src $(BIN)/python -m flexhost dev

test: .venv/dev ## test your functions
	$(BIN)/pytest tests/flexfun

test-host: .venv/dev ## run all tests, those of the host too; some minutes
	$(BIN)/pytest

test-bounds: ## run all tests with the oldest and with the newest packages the ranges allow
	bash tests/bounds.sh $(PYTHON)

reference: .venv-reference/made ## make .venv-reference, the reference that tests compare with

udf-servers: .venv-arrow-udf/made .venv-databend-udf/made ## make .venv-arrow-udf and .venv-databend-udf

check: .venv/dev .venv-reference/made ## what CI runs: format, lint, types, tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest

proto: .venv/dev ## ask protoc whether the service uses the messages of proto/
	@PYTHONPATH=src $(BIN)/python -m flexhost.invoke --check-proto

mypy: .venv/dev ## check the types
	$(BIN)/mypy

format-fix: .venv/dev ## format, and fix what ruff can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

fix-staged: .venv/dev ## the same for the staged files, staged again
	@git diff --cached --name-only --diff-filter=ACMR -- '*.py' | while read -r file; do \
	  git diff --quiet -- "$$file" || { echo "$$file is staged in part: left alone"; continue; }; \
	  $(BIN)/ruff check --fix "$$file" && $(BIN)/ruff format "$$file" && git add "$$file"; \
	done

bench: .venv/dev .venv-reference/made ## the host, bare pyarrow and the reference in turns; some minutes
	$(BIN)/python bench/comparison.py $(BENCH)

bench-full: .venv/dev .venv-reference/made ## the same with nine rounds of each
	$(BIN)/python bench/comparison.py --full $(BENCH)

bench-profile: .venv/dev .venv-reference/made ## what a small call costs, step by step, and each setting; two minutes
	$(BIN)/python bench/steps.py

bench-results: .venv/dev ## results past the budget, many small ones, equal calls; two minutes
	$(BIN)/python bench/results.py

bench-parameters: .venv/dev ## what typed parameters and the contract cost a call; ten seconds
	$(BIN)/python bench/authoring.py

bench-exchange: .venv/dev udf-servers ## DoExchange of the host, bare pyarrow, arrow-udf, databend-udf; minutes
	$(BIN)/python bench/exchange.py $(BENCH)

fuzz: .venv/dev ## 100,000 random and mutated requests; some minutes
	FUZZ_REQUESTS=100000 $(BIN)/python -m pytest -q tests/flexhost/test_fuzz.py

load: .venv/dev ## too many callers: paced, and in bursts; two minutes
	$(BIN)/python bench/load.py

SECONDS_OF_SOAK ?= 60
soak: .venv/dev ## mixed traffic for SECONDS_OF_SOAK=60; nothing may be left over
	$(BIN)/python bench/soak.py --seconds $(SECONDS_OF_SOAK)

docker: ## build the image
	docker build -t flexfun-host .

clean: ## remove what was made here, .secrets aside
	rm -rf .venv .venv-reference .venv-arrow-udf .venv-databend-udf .pytest_cache .mypy_cache .ruff_cache .hypothesis src/*.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/dev: requirements.txt requirements-dev.txt pyproject.toml
	@$(call make_venv,-r requirements-dev.txt)

.venv/prod: requirements.txt pyproject.toml
	@rm -rf .venv
	@$(call make_venv,-r requirements.txt)

.venv-reference/made: requirements-reference.txt requirements.txt
	$(PYTHON) -m venv .venv-reference
	.venv-reference/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-reference.txt -r requirements.txt
	.venv-reference/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'gooddata-flexfun==1.30.*'
	touch $@

.venv-%-udf/made: bench/requirements-%-udf.txt
	$(PYTHON) -m venv .venv-$*-udf
	.venv-$*-udf/bin/python -m pip install --quiet --disable-pip-version-check --upgrade -r $< pyarrow
	touch $@

.secrets:
	@umask 077 && printf '%s\n' \
	  '# Sourced by .envrc, ignored by git. Variables of this machine alone:' \
	  '# export GDCN_LICENSE_KEY="..."   # of the BI backend in docker-compose.yaml' \
	  >.secrets

define make_venv
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, %s is %s: make PYTHON=..." % (sys.executable, sys.version.split()[0]))'
[ -x $(BIN)/python ] && echo "bringing .venv up to date" || echo "making .venv: a minute, the first time"
[ -x $(BIN)/python ] || $(PYTHON) -m venv .venv
$(BIN)/python -m pip install --quiet --disable-pip-version-check $(1) -e .
touch $@
endef
