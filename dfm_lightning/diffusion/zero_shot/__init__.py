"""Zero-shot solvers of linear problems, which use any unconditional denoiser; one family in each file."""

from dfm_lightning.diffusion.zero_shot.base import LinearProblem, ZeroShotSolver, linear_problem
from dfm_lightning.diffusion.zero_shot.daps import DAPS
from dfm_lightning.diffusion.zero_shot.ddnm import DDNM
from dfm_lightning.diffusion.zero_shot.ddrm import DDRM
from dfm_lightning.diffusion.zero_shot.dds import DDS
from dfm_lightning.diffusion.zero_shot.dps import DPS
from dfm_lightning.diffusion.zero_shot.levels import DDPMLevels
from dfm_lightning.diffusion.zero_shot.pigdm import PiGDM
from dfm_lightning.diffusion.zero_shot.red_diff import REDDiff

__all__ = [
    "DAPS",
    "DDNM",
    "DDRM",
    "DDS",
    "DPS",
    "DDPMLevels",
    "LinearProblem",
    "PiGDM",
    "REDDiff",
    "ZeroShotSolver",
    "linear_problem",
]
