# Two commands do everything on a fresh machine with Python 3.11+ and make:
#   make demo   edits an example picture with the built-in model
#   make test   the whole test suite, as the continuous integration runs it
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: demo test lint docs model check-slow clean

demo: $(VENV)/.runtime
	@mkdir -p out
	$(BIN)/pixrt edit examples/scene.png "make the background blue" -o out/scene-blue.png --seed 4
	@echo "before: examples/scene.png   after: out/scene-blue.png"

# The simulated CUDA driver has to be loaded before anything that looks for CUDA: its tests are a process of their own.

test: lint docs $(VENV)/.simulated
	$(BIN)/python -m pytest
	$(BIN)/python -m pytest -m slow tests/engines/test_build_process.py tests/apps/test_gallery_process.py \
		tests/test_readme.py tests/test_wheel.py
	$(BIN)/python -m pytest -m "simulated and not slow" tests/simulated

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
	$(BIN)/python -m pytest -m "slow and not gpu and not simulated"
	$(BIN)/python -m pytest -m "simulated and slow" tests/simulated

# The built-in model out of its checkpoint. To ship another one, replace the checkpoint and run this.
model: $(VENV)/.dev
	$(BIN)/pixrt export tests/data/demo_checkpoint -o runtime/pixrt/models/demo --overwrite --name pixrt-demo \
		--notice "pixrt-demo is a demonstration model of small scenes with simple shapes; it does not edit photographs" \
		--steps 20 --guidance-scale 2 --image-guidance-scale 1.2 --scheduler dpmpp_2m

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e ".[cpu]"
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e ".[cpu,train,dev]"
	@touch $@ $(VENV)/.runtime

$(VENV)/.docs: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -c constraints.txt -e ".[docs]"
	@touch $@

# pycuda, compiled against the simulated driver, and the type stubs of TensorRT (--no-deps: they ask for the library).
$(VENV)/.simulated: tests/support/cuda_driver/install_pycuda.py constraints.txt $(VENV)/.dev
	$(BIN)/python tests/support/cuda_driver/install_pycuda.py --constraints constraints.txt
	$(PIP) install -c constraints.txt --no-deps tensorrt-stubs
	@touch $@

clean:
	rm -rf $(VENV) out dist
