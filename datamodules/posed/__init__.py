"""Posed images: the common base of Co3D, RealEstate10k, captures, photographs, and data sets of your own.

A data set is a `SceneReader` (`scenes.py`), which opens scenes by name: cameras, images and perhaps masks.
Everything else works with any reader: the choice of views (`view_choice.py` and a file for each choice), training
draws (`training.py`), evaluation (`protocol.py`, `evaluation.py`), trajectories (`trajectories.py`), and the data
module that puts them together (`datamodule.py`).
"""
