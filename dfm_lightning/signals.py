"""The signals that several packages know: radiance fields and motions. Codes and images are plain tensors."""

from typing import Literal, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

FieldStage = Literal["coarse", "fine"]
# Points of the coarse or of the fine pass, and the number of the first ray of their chunk.
PointsName = tuple[FieldStage, int]


class FieldValues(NamedTuple):
    """A radiance field's values at points: colour in [0, 1], density ≥ 0 (per scene unit), features."""

    colour: Float[Tensor, "b n 3"]
    density: Float[Tensor, "b n"]
    features: Float[Tensor, "b n f"]


@runtime_checkable
class RadianceField(Protocol):
    """A signal that volume rendering observes: a 3D scene (for each element of a batch), as a function of points.

    It may have two versions: a coarse one, which locates content along a ray, and a fine one, which is rendered.
    `floats_per_point` estimates how many numbers a query holds in memory for each point, so that renderers can
    size their chunks.
    """

    @property
    def floats_per_point(self) -> int: ...

    def query(self, points: Float[Tensor, "b n 3"], stage: FieldStage) -> FieldValues:
        """Compute the field's values at points in the scene."""
        ...


@runtime_checkable
class RecallingField(RadianceField, Protocol):
    """A radiance field that may reuse results for points at which it, or one like it, was queried before.

    Points are known by a name: what the renderer calls a chunk of them whenever it asks for it.
    """

    def query_again(self, points: Float[Tensor, "b n 3"], stage: FieldStage, name: PointsName) -> FieldValues:
        """Compute values at points that will be queried again; equal to `query` up to rounding.

        Results for earlier points of the same name that were others are forgotten.
        """
        ...


@runtime_checkable
class BoundedField(RadianceField, Protocol):
    """A radiance field of finite extent: rays need points only inside it."""

    def crossing(
        self, origins: Float[Tensor, "b n 3"], directions: Float[Tensor, "b n 3"]
    ) -> tuple[Float[Tensor, "b n 1"], Float[Tensor, "b n 1"]]:
        """Find where rays enter and leave, in multiples of their directions; the first is greater if they miss."""
        ...


class Motion(NamedTuple):
    """The displacement of each pixel of an image, and the precedence where pixels meet.

    `flow` is the displacement from time 0 to time 1 in pixels, to the right and down; `importance` is the
    logarithm of a pixel's weight in the average of those that meet.
    """

    flow: Float[Tensor, "b 2 h w"]
    importance: Float[Tensor, "b 1 h w"]
