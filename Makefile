# make demo   see it work         make test   all checks, docs and tests   make check  style, types, layers
# make test-fast  the core of the tests, in about a minute: to be run after every change
# make docs   the documentation   make bench  time against peers
# make coverage   the quick tests, and which lines of src they do not reach
# make setup  only the environment, made by itself where needed
# make test-machines              the tests of arithmetic once more, as on other processors

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.ready

.PHONY: setup demo test test-fast test-machines check docs bench coverage clean

setup: $(STAMP)

# The pinned versions are those that were tested together; uv installs them in seconds where pip takes minutes.
$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "connr needs Python 3.11 to 3.13, this is %d.%d; try: make PYTHON=python3.12" % v)'
	@echo "Setting up .venv with PyTorch and the rest; about 5 GB of disk, once."
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv>=0.5"
	$(BIN)/uv pip install --quiet --python $(BIN)/python --compile-bytecode -r requirements.txt
	$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps -e .
	@touch $@

demo: setup
	$(BIN)/connr demo

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: check docs
	$(BIN)/pytest -n auto --dist worksteal

# The tests marked `fast`, see tests/conftest.py.
test-fast: setup
	$(BIN)/pytest -n auto --dist worksteal -m fast

# Tracing lines costs time, so it is not part of `make test`.
coverage: setup
	$(BIN)/pytest -n auto --dist worksteal -m "not slow" --cov --cov-report=term:skip-covered --cov-report=html:build/coverage

# Other processors round products differently. The instruction sets that MKL and torch choose by processor are forced here, and
# CONNR_TEST_ULP_NOISE moves each product by a unit in its last place (tests/last_bits.py) in this process, not in those that it
# starts: so there tests that compare processes to the last bit are left out.
MACHINES := MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default ATEN_CPU_CAPABILITY=avx2 CONNR_TEST_THREADS=2 CONNR_TEST_ULP_NOISE=1

# The tests of what is computed. The rest of the suite runs in any setting as well: CONNR_TEST_THREADS=2 pytest.
ARITHMETIC := tests/clustering/test_kmeans.py tests/distributed $(addprefix tests/test_,$(addsuffix .py,augment whole_set \
  neighbourhoods predict on_ranks ranks features rows export))

test-machines: setup
	@for setting in $(MACHINES); do \
	  echo "The tests of arithmetic with $$setting"; \
	  env $$setting $(BIN)/pytest -n auto --dist worksteal -m "not slow" $(ARITHMETIC) || exit 1; \
	done

# A warning is an error: a page that is not linked, a name that is gone.
docs: setup
	$(BIN)/sphinx-build -W --keep-going -q -b html docs build/docs
	@echo "Open build/docs/index.html"

bench: setup
	$(BIN)/python benchmarks/all.py

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
