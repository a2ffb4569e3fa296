# Three commands do everything: `make demo`, `make test` and `make docs`. Each sets up .venv first; done work is not done again.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := runs/easy_vqa
# Tests run in so many processes at once, each with one thread and about 2 GiB of memory: `make test JOBS=8`.
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest --numprocesses $(JOBS) --dist worksteal
# Each process would compile all modules anew, and write the assertions of all tests anew: seconds.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo web test test-quick docs clean

demo: $(DEMO)/sheet.png
	$(BIN)/python demo/ask.py $(DEMO)

# The demo's model as a page that answers in the browser; Node.js is needed to fetch two packages, once.
web: $(DEMO)/predictions.jsonl | $(VENV)/installed-web
	$(BIN)/python demo/web.py $(DEMO) build/web

# A half-written target is deleted, so that the next call makes it again.
.DELETE_ON_ERROR:

$(DEMO)/sheet.png: $(DEMO)/predictions.jsonl demo/draw.py
	$(BIN)/python demo/draw.py $(DEMO)

$(DEMO)/predictions.jsonl: recipes/easy_vqa.yaml | $(VENV)/installed-demo
	$(BIN)/python run_vqa.py recipes/easy_vqa.yaml --output_dir $(DEMO)

test: $(VENV)/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST)

# All but what is marked as slow: what to run every few minutes.
test-quick: $(VENV)/installed-test
	$(PYTEST) -m "not slow"

# Pages that were not found, links to nowhere and the like are errors. Start at build/docs/index.html.
docs: $(VENV)/installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs

$(VENV)/installed-%: setup.py setup.cfg pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[$*]"
	touch $@

clean:
	rm -rf $(VENV) runs
