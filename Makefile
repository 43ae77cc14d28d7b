# Two commands: `make demo` shows the plugin at work, `make test` runs every test.
# Both make .venv on their first run and find it ready after that.

PYTHON ?= python3
PORT ?= 8001
BIN := .venv/bin
DEMO := demo/photos.db
# setuptools has a few lines to say to whoever installs for development; not here.
PIP := PYTHONWARNINGS=ignore $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-fast test-oldest soak lint docs clean

demo: .venv/installed
	$(BIN)/python demo/draw_photos.py
	$(BIN)/python demo/copy_photographs.py
	$(BIN)/sqlite-utils embed-images $(DEMO) images demo/photos demo/photographs --model things
	$(BIN)/sqlite-utils search-images $(DEMO) images "a cup of coffee" -k 3
	$(BIN)/sqlite-utils search-images $(DEMO) images "snowy mountains" -k 3 --where "taken_at >= '2021'"
	$(BIN)/sqlite-utils search-images $(DEMO) images --image "demo/photos/garden/blue anemones.jpg" -k 3
	$(BIN)/python demo/serve.py $(DEMO) $(PORT)

# All tests, and once more what touches Datasette, on the alpha of 1.0: each with one set of its parameters, and of the
# slowest a third, by FAULT_SEED.
# On all processors, so that each process has one for itself: threads of FAISS and torch that wait for each other
# take several times as long.
PARALLEL := --numprocesses auto --dist worksteal --durations 10
test test-fast test-oldest: export OMP_NUM_THREADS = 1
# Else each of some hundred processes compiles this package anew, for a second.
test test-fast test-oldest: export PYTHONDONTWRITEBYTECODE =
test: .venv/test-installed .venv/datasette-1.0
	$(BIN)/python -m pytest $(PARALLEL)
	PYTHONPATH=$(CURDIR)/.venv/datasette-1.0 $(BIN)/python -m pytest $(PARALLEL) -m datasette

# Without browsers, models, servers and processes, on one Datasette: a minute.
test-fast: .venv/test-installed
	$(BIN)/python -m pytest $(PARALLEL) --fast

# All tests on the oldest versions that setup.py allows; PYTHON may name the oldest Python, too.
test-oldest: .venv/oldest/installed
	.venv/oldest/bin/python -m pytest $(PARALLEL)

# Kills, full disks, restores and changes in any order, for about so many minutes.
MINUTES ?= 30
soak: export OMP_NUM_THREADS = 1
soak: export SOAK_MINUTES = $(MINUTES)
soak: .venv/test-installed
	$(BIN)/python -m pytest --numprocesses auto --dist worksteal tests/faults

lint: .venv/test-installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Help texts and the example in docs/ come from the commands themselves.
docs: .venv/test-installed
	$(BIN)/cog -r docs/*.md

clean:
	rm -rf .venv build dist *.egg-info demo/photos demo/photographs $(DEMO)*

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python setup.py
	$(PIP) install --quiet --editable '.[things]'
	touch $@

.venv/test-installed: .venv/bin/python setup.py
	$(PIP) install --quiet --editable '.[test]'
	touch $@ .venv/installed

# A folder that comes before the environment on the path of Python: pip holds one Datasette only.
.venv/datasette-1.0: .venv/test-installed
	$(PIP) install --quiet --upgrade --target $@ 'datasette>=1.0a41'
	touch $@

# With uv: pip tries one version after the other, for hours.
.venv/oldest/installed: .venv/test-installed tests/oldest_versions.py
	$(PYTHON) -m venv .venv/oldest
	$(BIN)/python tests/oldest_versions.py > .venv/oldest/constraints.txt
	.venv/oldest/bin/python -m pip --disable-pip-version-check install --quiet uv
	.venv/oldest/bin/uv pip install --quiet --python .venv/oldest --constraint .venv/oldest/constraints.txt --editable '.[test]'
	touch $@
