"""A small model of the problem, and its training."""

from lightning.pytorch import Trainer, seed_everything
from problem import DIMENSIONS, LinearMap, LinearObservations

from dfm_lightning.denoisers import MLPDenoiser
from dfm_lightning.diffusion import DDIM
from dfm_lightning.module import DiffusionWithForwardModel
from dfm_lightning.optimizers import AdamWithWarmup

ITERATIONS = 2500


def train(
    seed: int, target_numbers: int = 2, novel_weight: float = 1.0, iterations: int = ITERATIONS
) -> DiffusionWithForwardModel:
    """Train on observations alone.

    Args:
        seed: decides the weights that training begins with, and all that it draws.
        target_numbers: numbers in an observation of the target.
        novel_weight: weight of the loss at novel parameters (DFM eq. 9).
        iterations: of 1024 signals each.
    """
    seed_everything(seed, verbose=False)
    # The context's number and axis, the target's axes and numbers.
    inputs = (1 + target_numbers) * (1 + DIMENSIONS)
    model = DiffusionWithForwardModel(
        MLPDenoiser(inputs, [DIMENSIONS], width=64, depth=3),
        LinearMap(target_numbers),
        sampler=DDIM(steps=25),
        optimizer=AdamWithWarmup(learning_rate=6e-3, warmup_steps=100, decay="cosine"),
        novel_weight=novel_weight,
    )
    trainer = Trainer(
        accelerator="cpu",
        max_steps=iterations,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, LinearObservations(target_numbers))
    return model.eval()
