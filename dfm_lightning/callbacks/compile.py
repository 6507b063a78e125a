"""`torch.compile` as an option."""

from typing import Literal

from lightning.pytorch import Callback, LightningModule, Trainer

from dfm_lightning.errors import UserError


class Compile(Callback):
    """Compile parts of the model in place, so that their names in a checkpoint stay the same.

    Only calls of the module itself (`part(...)`) run compiled, not its other methods.

    Args:
        parts: dotted names of modules in the model, as in a checkpoint's keys.
        backend: the compiler; "inductor" needs a C++ compiler, and Triton on a GPU.
        mode: what "inductor" optimises for.
        dynamic: true compiles once for inputs of any shape, false for each shape, null decides by itself.
    """

    def __init__(
        self,
        parts: list[str],
        backend: str = "inductor",
        mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] = "default",
        dynamic: bool | None = None,
    ) -> None:
        self.parts = parts
        self.backend = backend
        self.mode = mode
        self.dynamic = dynamic

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Mark the parts; they compile when they are first called."""
        modules = dict(pl_module.named_modules())
        unknown = [part for part in self.parts if part not in modules]
        if unknown:
            known = ", ".join(name for name in modules if name and name.count(".") < 2)
            raise UserError(f"Compile: the model has no part {', '.join(unknown)}; it has {known}.")
        mode = {} if self.mode == "default" else {"mode": self.mode}
        for part in self.parts:
            modules[part].compile(backend=self.backend, dynamic=self.dynamic, **mode)
