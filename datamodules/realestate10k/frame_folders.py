"""The official form: a camera text file for each scene, and a folder of frames beside it."""

from pathlib import Path

from PIL import Image

from datamodules.folders import find_files
from datamodules.image_files import UnreadableError, read_picture
from datamodules.posed.camera_files import read_camera_file
from datamodules.posed.scenes import Scene, SceneReader
from dfm_lightning.wording import counted

EXTENSIONS = (".jpg", ".png", ".jpeg")


class FolderScene(Scene):
    """A camera text file, and a folder of pictures named by timestamp."""

    def __init__(self, key: str, camera_file: Path) -> None:
        path = read_camera_file(camera_file)
        super().__init__(key, *path.cameras())
        self.frame_names = tuple(map(str, path.timestamps.tolist()))
        folder = camera_file.with_suffix("")
        files = {(file.stem, file.suffix.lower()): file for file in find_files(folder, *EXTENSIONS)}
        self._stems = [folder / name for name in self.frame_names]
        self._paths = [
            next((files[stem.name, ending] for ending in EXTENSIONS if (stem.name, ending) in files), None)
            for stem in self._stems
        ]

    def has_frame(self, position: int) -> bool:
        return self._paths[position] is not None

    def frame(self, position: int) -> Image.Image:
        path = self._paths[position]
        if path is None:
            raise UnreadableError(f"{self._stems[position]}.jpg or .png: no such file")
        return read_picture(path, str(path))


class FolderReader(SceneReader):
    """The scenes of `<root>/<split>/*.txt`."""

    def __init__(self, folder: Path) -> None:
        self._files = {path.stem: path for path in find_files(folder, ".txt")}
        self.description = f"{counted(len(self._files), 'scene')} as camera text files with folders of frames"

    def keys(self) -> list[str]:
        return list(self._files)

    def scene(self, key: str) -> Scene:
        return FolderScene(key, self._files[key])
