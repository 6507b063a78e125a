"""Warn if this machine computes in the chosen precision far more slowly than in float32."""

import platform
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

# Without AVX-512, PyTorch convolves bfloat16 by its slowest path on such processors.
_X86 = ("x86_64", "AMD64", "i686")
_WITHOUT_BF16 = ("DEFAULT", "NO AVX", "AVX2")


def computes_bf16_slowly(machine: str | None = None, capability: str | None = None) -> bool:
    """Tell whether this processor lacks instructions for bfloat16.

    Args:
        machine: the kind of processor, by default this one's (`platform.machine()`).
        capability: its vector instructions as PyTorch names them, by default this one's.
    """
    machine = platform.machine() if machine is None else machine
    capability = torch.backends.cpu.get_cpu_capability() if capability is None else capability
    return machine in _X86 and capability in _WITHOUT_BF16


def warn_of_slow_precision(trainer: "Trainer") -> None:
    """Warn once if the trainer is to compute in bfloat16 on a processor without instructions for it."""
    precision = str(trainer.precision)
    on_cpu = trainer.strategy.root_device.type == "cpu"
    if on_cpu and precision.startswith("bf16") and computes_bf16_slowly() and trainer.is_global_zero:
        print(
            f"This processor has no instructions for bfloat16: --trainer.precision {precision} can take ten times "
            "as long as 32-true."
        )
