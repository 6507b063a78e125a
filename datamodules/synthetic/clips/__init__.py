"""Synthetic clips in the layout of Vimeo-90K."""

from datamodules.synthetic.clips.writer import write_synthetic_clips

__all__ = ["write_synthetic_clips"]
