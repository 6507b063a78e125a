"""Libraries' messages that are of no use to users of this program."""

import logging
import warnings


def silence_chatter() -> None:
    """Suppress Lightning's messages that are useless or untrue for users of this program."""
    unwanted = (
        "GPU available", "\U0001f4a1 Tip", "TPU available", "\nDetected KeyboardInterrupt",
        "Initializing distributed", "-----",
    )  # fmt: skip
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.distributed"):
        logging.getLogger(name).addFilter(lambda record: not record.getMessage().startswith(unwanted))
    warnings.filterwarnings("ignore", message="The dirpath has changed")
    warnings.filterwarnings("ignore", message="The number of training batches .* is smaller than the logging")
    # The checkpoint's own weights are the averaged ones, which is what testing and predicting should use.
    warnings.filterwarnings("ignore", message="You're using the WeightAveraging callback, but loading")
    warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
