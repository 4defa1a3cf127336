# On a fresh machine with Python 3.11+ and make:
#   make demo        edits a photograph with the built-in model
#   make test-fast   the tests that do without PyTorch, in a minute
#   make test-pythons   the same on every Python from 3.11 to 3.14 that is here
#   make test        lint and the whole test suite, as the continuous integration runs them
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Python compiles what it imports, and keeps it: tests start many processes. pip would compile all of PyTorch.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
INSTALL := $(PIP) install --no-compile -c constraints.txt
PYTEST := $(BIN)/python -m pytest
# A worker for every core, of one thread.
WORKERS := --numprocesses auto --maxprocesses 8

.PHONY: demo test test-fast test-pythons test-unit test-slow test-page test-simulated test-bounds lint docs model check-slow clean

demo: $(VENV)/.runtime
	@mkdir -p out
	$(BIN)/pixrt edit examples/chelsea.jpg "make it look like an old photo" -o out/chelsea-old.png --seed 0 --overwrite
	@echo "before: examples/chelsea.jpg   after: out/chelsea-old.png"

# What takes one core goes side by side, then what takes all of them.
test: $(VENV)/.dev
	$(MAKE) --no-print-directory --jobs 2 --output-sync=target test-bounds test-simulated lint docs
	$(MAKE) --no-print-directory test-slow
	$(MAKE) --no-print-directory test-page
	$(MAKE) --no-print-directory test-unit

test-fast: $(VENV)/.fast
	$(PYTEST) $(WORKERS) --dist loadfile -m "not torch and not slow and not gpu and not simulated and not browser"

# In an environment for each Python that is found; what is not there is told.
test-pythons:
	@for version in 3.11 3.12 3.13 3.14; do \
		if python$$version -c "" 2> /dev/null; then \
			$(MAKE) --no-print-directory test-fast PYTHON=python$$version VENV=$(VENV)-$$version || exit 1; \
		else \
			echo "python$$version is not here: not tested"; \
		fi; \
	done

test-unit: $(VENV)/.simulated
	$(PYTEST) $(WORKERS) --dist loadfile

test-slow: $(VENV)/.dev
	$(PYTEST) $(WORKERS) --dist worksteal -m slow tests/engines/test_build_process.py \
		tests/apps/test_gallery_process.py tests/export/test_quantisation.py tests/serve/test_documents.py \
		tests/test_readme.py tests/test_wheel.py

# The web page in Chromium; skipped where there is none. A worker has servers of its own: more than cores would slow all.
# What fails is tried once more, by itself: a browser on a busy machine may be later than a test waits.
test-page: $(VENV)/.dev
	$(PYTEST) --numprocesses auto --maxprocesses 4 --dist worksteal -m browser tests/page \
		|| $(PYTEST) -m browser --last-failed --last-failed-no-failures none tests/page

# The simulated CUDA driver has to be loaded before anything that looks for CUDA: its tests are a process of their own.
test-simulated: $(VENV)/.simulated
	$(PYTEST) -m "simulated and not slow" tests/simulated

# The runtime's tests at the lowest versions of its packages, then at the newest, in an environment of their own.
BOUNDS := tests/bundles tests/core tests/lora tests/options tests/pictures tests/test_files.py tests/test_reading.py
OF_BOUNDS := $(VENV)-bounds/bin/python -m
test-bounds:
	$(PYTHON) -m venv --clear $(VENV)-bounds
	$(OF_BOUNDS) pip --disable-pip-version-check --quiet install --no-compile -c constraints-lowest.txt -e ".[cpu,test]"
	$(OF_BOUNDS) pytest $(AT_BOUNDS)
	$(OF_BOUNDS) pip --disable-pip-version-check --quiet install --no-compile --upgrade --upgrade-strategy eager -e ".[cpu,test]"
	$(OF_BOUNDS) pytest $(AT_BOUNDS)
AT_BOUNDS = $(WORKERS) --dist loadfile -p no:cacheprovider -m "not torch and not slow and not gpu and not simulated" $(BOUNDS)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The pages and both references as a site; a broken link or a page that is not in the menu is an error.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "open out/site/index.html"

check-slow: $(VENV)/.dev $(VENV)/.simulated
	$(PYTEST) $(WORKERS) --dist loadfile -m "slow and not gpu and not simulated"
	$(PYTEST) -m "simulated and slow" tests/simulated

# The built-in models out of their checkpoints. To ship another one, replace its checkpoint and run this.
model: $(VENV)/.dev
	$(BIN)/pixrt export tests/data/photo_checkpoint -o runtime/pixrt/models/demo --overwrite --compact --name pixrt-demo \
		--notice "pixrt-demo is a demonstration model that knows 28 kinds of edits of photographs (pixrt inspect demo); for all others: pixrt pull timbrooks/instruct-pix2pix" \
		--steps 8 --guidance-scale 1 --image-guidance-scale 1 --scheduler ddim \
		--example "make it look like an old photo" --example "make it black and white" \
		--example "make it much warmer" --example "make it night" \
		--example "turn the reds blue" --example "make it a pencil sketch" \
		--example "make it snow" --example "make it warmer and add a vignette"
	$(BIN)/pixrt export tests/data/shapes_checkpoint -o runtime/pixrt/models/shapes --overwrite --compact --name pixrt-shapes --defaults-from shapes \
		--notice "pixrt-shapes is a demonstration model of small scenes with simple shapes; it does not edit photographs" \
		--steps 20 --guidance-scale 2 --image-guidance-scale 1.2 --scheduler dpmpp_2m \
		--example "make the background blue" --example "make the circle blue" \
		--example "turn the circle into a star" --example "make the circle bigger" \
		--example "remove the circle" --example "make the square red and make the background white" \
		--example "make it black and white" --example "invert the colors"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[cpu]"
	@touch $@

$(VENV)/.fast: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[cpu,test]"
	@touch $@ $(VENV)/.runtime

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[docs]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(INSTALL) -e ".[cpu,train,quantize,dev]"
	@touch $@ $(VENV)/.runtime $(VENV)/.fast

# pycuda, compiled against the simulated driver.
$(VENV)/.simulated: tests/support/cuda_driver/install_pycuda.py constraints.txt $(VENV)/.dev
	$(BIN)/python tests/support/cuda_driver/install_pycuda.py --constraints constraints.txt
	@touch $@

clean:
	rm -rf $(VENV) $(VENV)-bounds $(VENV)-3.1[1-4] out dist
