"""Write results to disk for people: whole files and folders, pictures, videos, a page."""

from dfm_lightning.callbacks.output.page import Picture, Section, Video, write_page
from dfm_lightning.callbacks.output.panels import Panel, panel_of, write_panels
from dfm_lightning.callbacks.output.pictures import (
    colour_map,
    image_to_uint8,
    images_to_uint8,
    labelled_grid,
    side_by_side,
    write_png,
)
from dfm_lightning.callbacks.output.video import write_video

__all__ = [
    "Panel",
    "Picture",
    "Section",
    "Video",
    "colour_map",
    "image_to_uint8",
    "images_to_uint8",
    "labelled_grid",
    "panel_of",
    "side_by_side",
    "write_page",
    "write_panels",
    "write_png",
    "write_video",
]
