# make demo               install, test the shipped model on new scenes, predict videos, fine-tune for a minute
# make demo-rooms         the shipped model of rooms: what is behind the door, on one page
# make demo-motion        the shipped model of motions from one image: its scores and samples on one page
# make demo-gan           the same for faces from a patch
# make demo-linear        the same for images from linear measurements: masked, blurred, mixed, or not measured at all
# make demo-sparsefusion  views from two images by SparseFusion, two scenes distilled, on one page
# make demo-sparsefusion-from-scratch  the same from nothing: its training scenes, its model (about 40 minutes), its test
# make demo-from-scratch  install, make the training scenes, train the demo's model for hours, test it
# make results            test the shipped model on the 50 scenes held out from its training, 8 samples each, on one page
# make test               install, check style and types, run all tests
# make quick              style, types, and the tests that end within two minutes on 2 cores
# make docs               the documentation as a site in build/site
# All install into $(VENV) first if needed; started again, they do only what is missing.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DFM := OMP_NUM_THREADS=1 $(BIN)/dfm
# The page that a demo ends with: what one wants to see comes first.
PAGE := report --pictures_first true
# Scenes that the shipped model has never seen: those it was trained on have seed 0.
PLAIN := --frames 16 --height 64 --width 64 --plain true --workers 2
SCENES := --train_scenes 32 --val_scenes 4 --test_scenes 8 $(PLAIN) --seed 1
TRAINING_SCENES := --train_scenes 1200 --val_scenes 16 --test_scenes 50 $(PLAIN)
CONFIG := --config configs/co3d_demo.yaml
WEIGHTS := --ckpt_path co3d_demo
PHOTOGRAPH := docs/images/toy_photograph.jpg
MOTION := --config configs/vimeo90k_demo.yaml --ckpt_path vimeo90k_demo --data.root demo/motion/clips
GAN := --config configs/ffhq_gan_demo.yaml --ckpt_path ffhq_gan_demo
ROOMS := --config configs/realestate10k_demo.yaml --ckpt_path realestate10k_demo
LINEAR := --config configs/linear_faces_demo.yaml --ckpt_path linear_faces_demo
SPARSE := --ckpt_path sparsefusion_demo --data.root demo/sparsefusion/scenes
SPARSE_SCENES := --train_scenes 2 --val_scenes 1 --test_scenes 8 --frames 16 --height 64 --width 64 --seed 1
SPARSE_TRAINING := --train_scenes 400 --val_scenes 4 --test_scenes 8 --frames 16 --height 64 --width 64 --workers 2
# A folder of its own: all that the config names lies in there, beside what the shipped model gave.
SCRATCH := demo/sparsefusion_from_scratch
IN_SCRATCH := cd $(SCRATCH) && OMP_NUM_THREADS=1 $(abspath $(BIN))/dfm
SPARSE_CONFIG := --config $(abspath configs)/sparsefusion_demo.yaml
SPARSE_LAST := demo/sparsefusion/fit/last.ckpt
# Once around; it was taken from 22 degrees above the horizon.
AROUND := "{kind: orbit, size: 6.283, frames: 30, elevation: 22}"

.PHONY: demo demo-rooms demo-motion demo-gan demo-linear demo-sparsefusion demo-sparsefusion-from-scratch \
	demo-from-scratch results test quick docs lint clean-demo
.DELETE_ON_ERROR:

demo: demo/index.html
	@echo
	@echo "Done. Look at demo/index.html: scores and pictures of scenes that the model has never seen, videos around"
	@echo "sampled scenes, each from one image, and the losses of the fine-tuning."

# (A new installation is no reason to make it again.)
demo/.objects: | $(VENV)/.installed
	$(BIN)/dfm data make-co3d demo/objects $(SCENES)
	@touch $@

demo/.tested: demo/.objects
	$(DFM) test $(CONFIG) $(WEIGHTS)
	@touch $@

demo/.predicted: demo/.tested
	$(DFM) predict $(CONFIG) $(WEIGHTS) --data.scenes.test 4
	$(DFM) predict $(CONFIG) $(WEIGHTS) --trainer.callbacks.output demo/photograph \
		--data.image $(PHOTOGRAPH) --data.prediction.move $(AROUND)
	@touch $@

demo/.finetuned: demo/.predicted
	$(DFM) fit $(CONFIG) --config configs/co3d_demo_finetune.yaml --initial_weights co3d_demo
	@touch $@

demo/index.html: demo/.finetuned
	$(BIN)/dfm $(PAGE) demo/test demo/predict demo/photograph runs/co3d_demo_finetune --title "The demo" --output $@

demo-rooms: demo/rooms_index.html
	@echo "Done. Look at demo/rooms_index.html: one image of a room, the rooms that may lie behind its door."

demo/.rooms: | $(VENV)/.installed
	$(BIN)/dfm data make-rooms demo/rooms --train_scenes 16 --test_scenes 8 --frames 16 --height 48 --empty true --seed 1
	@touch $@

demo/rooms_index.html: demo/.rooms
	$(DFM) test $(ROOMS)
	$(DFM) predict $(ROOMS) --data.scenes.test 3
	$(BIN)/dfm $(PAGE) demo/rooms_test demo/rooms_predict --title "Behind the door" --output $@

demo-motion: demo/motion/index.html
	@echo "Done. Look at demo/motion/index.html: one image, the motions that may follow."

demo/motion/.data: | $(VENV)/.installed
	$(BIN)/dfm data make-clips demo/motion/clips --train_clips 64 --test_clips 24 --height 32 --width 32 --turn 8 \
		--growth 1.05 --seed 1
	@touch $@

demo/motion/index.html: demo/motion/.data
	$(DFM) test $(MOTION) --model.samples 16
	$(DFM) predict $(MOTION) --model.samples 8
	$(BIN)/dfm $(PAGE) demo/motion/test demo/motion/predict --title "Motions from one image" --output $@

demo-gan: demo_gan/index.html
	@echo "Done. Look at demo_gan/index.html: a patch of a face, the faces that it may belong to."

demo_gan/index.html: | $(VENV)/.installed
	$(DFM) test $(GAN)
	$(DFM) predict $(GAN)
	$(BIN)/dfm $(PAGE) demo_gan/test demo_gan/predict --title "Faces from a patch" --output $@

demo-linear: demo_linear/index.html
	@echo "Done. Look at demo_linear/index.html: measurements of faces, the faces that they may be of."

demo_linear/index.html: | $(VENV)/.installed
	$(DFM) test $(LINEAR)
	$(DFM) predict $(LINEAR)
	$(BIN)/dfm $(PAGE) demo_linear/test demo_linear/predict --title "Images from linear measurements" --output $@

demo-sparsefusion: demo/sparsefusion/index.html
	@echo "Done. Look at demo/sparsefusion/index.html: views from two images, by regression, sampled and distilled."

demo/sparsefusion/.data: | $(VENV)/.installed
	$(BIN)/dfm data make-co3d demo/sparsefusion/scenes $(SPARSE_SCENES)
	@touch $@

# What was distilled for the test is not distilled again for videos: states are kept.
demo/sparsefusion/index.html: demo/sparsefusion/.data
	$(DFM) test --config configs/sparsefusion_demo.yaml $(SPARSE)
	$(DFM) test --config configs/sparsefusion_demo.yaml --config configs/sparsefusion_demo_distil.yaml $(SPARSE)
	$(DFM) predict --config configs/sparsefusion_demo.yaml --config configs/sparsefusion_demo_distil.yaml $(SPARSE)
	$(BIN)/dfm $(PAGE) demo/sparsefusion/test demo/sparsefusion/distilled demo/sparsefusion/predict \
		--title "Views from two images" --output $@

demo-sparsefusion-from-scratch: $(SCRATCH)/index.html
	@echo "Done. Look at $<: views from two images, by a model that was trained just now."

$(SCRATCH)/.data: | $(VENV)/.installed
	mkdir -p $(SCRATCH)
	$(IN_SCRATCH) data make-co3d demo/co3d_sparse $(SPARSE_TRAINING)
	@touch $@

# A training that was interrupted goes on from its last checkpoint.
$(SCRATCH)/.trained: $(SCRATCH)/.data
	$(IN_SCRATCH) fit $(SPARSE_CONFIG) $(if $(wildcard $(SCRATCH)/$(SPARSE_LAST)),--ckpt_path $(SPARSE_LAST))
	@touch $@

$(SCRATCH)/index.html: $(SCRATCH)/.trained
	$(IN_SCRATCH) test $(SPARSE_CONFIG) --ckpt_path $(SPARSE_LAST)
	$(IN_SCRATCH) test $(SPARSE_CONFIG) --config $(abspath configs)/sparsefusion_demo_distil.yaml --ckpt_path $(SPARSE_LAST)
	$(IN_SCRATCH) $(PAGE) demo/sparsefusion/test demo/sparsefusion/distilled \
		--title "Views from two images, from nothing" --output index.html

demo/.training_objects: | $(VENV)/.installed
	$(BIN)/dfm data make-co3d demo/objects_1200 $(TRAINING_SCENES)
	@touch $@

# A training that was interrupted goes on from its last checkpoint.
demo/.trained: demo/.training_objects
	$(DFM) fit $(CONFIG) --data.root demo/objects_1200 $(if $(wildcard demo/fit/last.ckpt),--ckpt_path demo/fit/last.ckpt)
	@touch $@

demo-from-scratch: demo/.trained
	$(DFM) test $(CONFIG) --data.root demo/objects_1200 --ckpt_path demo/fit/last.ckpt

results: demo/.training_objects docs/results/ffhq_gan_demo.html docs/results/vimeo90k_demo.html
	$(DFM) test $(CONFIG) --config configs/co3d_demo_results.yaml $(WEIGHTS)
	$(BIN)/dfm report demo/results --title "The shipped model on 50 held-out scenes" --scenes 6 \
		--output docs/results/co3d_demo.html

docs/results/vimeo90k_demo.html: demo/motion/index.html
	$(BIN)/dfm report demo/motion/test --title "The shipped model of motions, on 24 clips of another seed" --scenes 12 \
		--output $@

docs/results/ffhq_gan_demo.html: demo_gan/index.html
	$(BIN)/dfm report demo_gan/test --title "The shipped model of faces from a patch, on 32 held-out patches" \
		--output $@

test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

quick: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --quick

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file docs/site/mkdocs.yml

$(VENV)/.docs: $(VENV)/.installed
	$(BIN)/python -m pip install --editable ".[docs]"
	@touch $@

$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed, %s is %d.%d: make PYTHON=python3.12 ..." % (sys.executable, *sys.version_info[:2]) if sys.version_info < (3, 10) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install --editable ".[dev]"
	@touch $@

clean-demo:
	rm -rf demo demo_gan demo_linear
