# make demo   install, write a small data set, train on it, test, predict videos (under 20 minutes on 2 cores)
# make report make the demo if needed, and one page of its training, scores and videos
# make test   install, check style and types, run all tests
# make quick  style, types, and the tests that end within two minutes on 2 cores
# Both install into $(VENV) first if needed; started again, they do only what is missing.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SCENES := --train_scenes 400 --val_scenes 8 --test_scenes 12 --frames 16 --height 48 --width 48 --workers 2
CONFIG := --config configs/co3d_demo.yaml
WEIGHTS := --ckpt_path demo/fit/last.ckpt

.PHONY: demo report test quick lint clean-demo
.DELETE_ON_ERROR:

demo: demo/.predicted
	@echo
	@echo "Done. Look at"
	@echo "  demo/test/index.html      scores, and for each scene its context, true views, estimate, samples, depth"
	@echo "  demo/predict/index.html   videos around each sampled scene"
	@echo "  tensorboard --logdir runs curves and pictures of the training"

# (A new installation is no reason to make it again.)
demo/.data: | $(VENV)/.installed
	$(BIN)/dfm data make-co3d demo/co3d $(SCENES)
	@touch $@

# A training that was interrupted goes on from its last checkpoint.
demo/.trained: demo/.data
	$(BIN)/dfm fit $(CONFIG) $(if $(wildcard demo/fit/last.ckpt),$(WEIGHTS))
	@touch $@

demo/.tested: demo/.trained
	$(BIN)/dfm test $(CONFIG) $(WEIGHTS)
	@touch $@

demo/.predicted: demo/.tested
	$(BIN)/dfm predict $(CONFIG) $(WEIGHTS) --data.test_scenes 2
	@touch $@

# The demo's training, scores and videos on one page.
report: demo/.predicted
	$(BIN)/dfm report demo/test demo/predict runs/co3d_demo --title "The demo" --output demo/report.html

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

quick: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m "not slow"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, %s is %d.%d: make PYTHON=python3.12 ..." % (sys.executable, *sys.version_info[:2]) if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install --editable ".[dev]"
	@touch $@

clean-demo:
	rm -rf demo
