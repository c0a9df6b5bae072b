# Everything runs in .venv, made from the locked requirements when it is missing or older.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install

FIGURES := .cache/proof.jsonl
LONG = PLAYHEAD_PROOF=long PLAYHEAD_PROOF_FIGURES=$(abspath $(FIGURES)) $(BIN)/python -m pytest
# The longest single tests first. What asks for `figures.LONG` is here (a test sees to it).
PROOFS := tests/acceptance/test_cycles.py tests/property/test_programs.py tests/crash/test_kill.py tests/crash/test_matrix.py \
  tests/acceptance/test_rewind_table.py tests/acceptance/test_restart_rows.py tests/acceptance/test_diff_large.py \
  tests/acceptance/test_dead_letters.py tests/model/test_publisher.py \
  tests/property/test_replay_laws.py tests/property/test_plan_applied.py

.PHONY: demo test test-long bench bench-quick seeded lint lock clean

demo: .venv/run       ## the whole story on this machine, in seconds; needs only Python
	$(BIN)/playhead demo

test: lint            ## every check and every test; needs Java 17 and Maven (Kafka), and PostgreSQL
	$(BIN)/python -m pytest -n 4 --dist loadfile --no-loadscope-reorder

test-long: lint       ## the proofs in full, up to 45 minutes; writes docs/proof.md
	$(BIN)/python tests/proof/report.py begin $(FIGURES)
	$(LONG) -m alone tests/acceptance/test_cycles.py
	$(LONG) -n 6 --dist load --maxschedchunk 1 -m "not alone" $(PROOFS)
	$(LONG) -n 6 --dist loadfile -m "long and not alone"
	PLAYHEAD_PROOF_FIGURES=$(abspath $(FIGURES)) $(BIN)/python tests/proof/seeded.py
	$(BIN)/python tests/proof/report.py $(FIGURES)

bench: .venv/dev      ## Playhead and its peers, side by side, half an hour; writes docs/performance.md
	$(BIN)/python benchmarks/bench.py
	$(BIN)/python benchmarks/own.py --large
	$(BIN)/python benchmarks/report.py

bench-quick: .venv/dev ## a look at the ratios, in two minutes
	$(BIN)/python benchmarks/bench.py --quick

seeded: .venv/dev     ## put known bugs into a copy: each turns the test red that it names
	$(BIN)/python tests/proof/seeded.py

lint: .venv/dev       ## style, types, direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: .venv/dev       ## pin the requirements anew
	$(PIP) uv
	for f in requirements requirements-dev; do \
	  $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	    --no-emit-package playhead --no-header --no-emit-index-url --upgrade $$f.in -o $$f.txt; \
	done

.venv/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv .venv
	touch $@

.venv/run: .venv/python requirements.txt pyproject.toml
	$(PIP) --require-hashes -r requirements.txt
	$(PIP) --no-deps --no-build-isolation -e .
	touch $@

.venv/dev: .venv/run requirements-dev.txt
	$(PIP) --require-hashes -r requirements-dev.txt
	touch $@

clean:                ## remove what the targets above made
	rm -rf .venv .cache build src/*.egg-info
