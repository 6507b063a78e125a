"""The page in the browser: a camera that is moved with the mouse, and sliders for sample and depth (viser)."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from dfm_lightning.errors import UserError
from dfm_lightning.viewer.samples import Samples, find_samples, side_by_side


class Viewer:
    """Shows samples to whoever opens the page; pictures are rendered here and sent to the browser.

    Args:
        samples: what is shown.
        port: where the page is served.
        host: address of this machine to listen at.
        height: pixels of a picture from top to bottom.

    Raises:
        UserError: viser is not installed.
    """

    def __init__(self, samples: Samples, port: int, host: str, height: int) -> None:
        try:
            import viser
        except ModuleNotFoundError as error:
            raise UserError("dfm view needs viser: pip install 'dfm-lightning[view]'") from error
        self.samples = samples
        self.height = height
        self.server: Any = viser.ViserServer(host=host, port=port, verbose=False)
        self.server.scene.set_up_direction("-y")
        # Where the first context camera was, looking at the middle of the scene.
        renderer = samples.scenes[0].renderer
        first = self.server.initial_camera
        first.position = (0.0, 0.0, 0.0)
        first.look_at = (0.0, 0.0, (renderer.near + renderer.far) / 2)
        first.up = (0.0, -1.0, 0.0)
        first.fov = samples.vertical
        count = len(samples.names)
        self.sample = self.server.gui.add_slider(
            "sample (0: all)", min=0, max=count, step=1, initial_value=0, hint=", ".join(samples.names)
        )
        self.depth = self.server.gui.add_slider("depth", min=0.0, max=1.0, step=0.05, initial_value=0.0)
        for slider in (self.sample, self.depth):
            slider.on_update(lambda _: self._show_all())
        self.server.on_client_connect(self._welcome)

    def show(self, client: Any) -> None:
        """Render what a client's camera sees, and send it."""
        camera = client.camera
        pose = np.eye(4)
        # (viser's quaternions are w, x, y, z; SciPy's x, y, z, w.)
        pose[:3, :3] = Rotation.from_quat(np.roll(np.asarray(camera.wxyz), -1)).as_matrix()
        pose[:3, 3] = camera.position
        chosen = self.samples.scenes[self.sample.value - 1 :][:1] if self.sample.value else self.samples.scenes
        picture = side_by_side(
            chosen, torch.from_numpy(pose).float(), camera.fov, camera.aspect, self.height, self.depth.value
        )
        client.scene.set_background_image(picture, format="jpeg")

    def _welcome(self, client: Any) -> None:
        """Send a new client pictures, the first one now."""
        client.camera.on_update(lambda _: self.show(client))
        self.show(client)

    def _show_all(self) -> None:
        for client in self.server.get_clients().values():
            self.show(client)


def view(predictions: Path, port: int = 8080, host: str = "127.0.0.1", height: int = 160) -> None:
    """Look at the samples of a scene side by side in the browser, until interrupted.

    Args:
        predictions: a folder that `dfm predict --export scene` has written, of one scene.
        port: port of the page.
        host: address to listen at; 0.0.0.0 for other machines too.
        height: pixels of the picture from top to bottom: fewer are quicker.
    """
    if not predictions.is_dir():
        raise UserError(f"there is no folder {predictions}")
    if height < 2 or not 0 <= port <= 65535:
        raise UserError(f"height must be at least 2 and port 0 to 65535, got {height} and {port}")
    viewer = Viewer(find_samples(predictions), port, host, height)
    print(f"http://{host}:{viewer.server.get_port()}  (Ctrl-C ends)", flush=True)
    while True:
        time.sleep(1)
