"""`PredictingModule`: test and predict for every way of drawing samples, diffusion or not."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from dfm_lightning.interfaces import check_kind, check_request
from dfm_lightning.randomness import with_seed
from dfm_lightning.ranges import check_at_least
from dfm_lightning.record import CLASS, Recorded, flat
from dfm_lightning.sampling.draws import draw_groups
from dfm_lightning.sampling.evaluation import advanced_in_evaluation, differentiable, evaluated
from dfm_lightning.sampling.plan import Plan
from dfm_lightning.sampling.scoring import score_consistency, score_draws, score_signals
from dfm_lightning.scene_scores import SceneScores, ScoresScenes
from dfm_lightning.types import Batch, Prediction, Request, Views, as_request, concatenate, map_tensors
from dfm_lightning.weights import check_usable


class PredictingModule(Recorded, ScoresScenes, ABC):
    """A LightningModule that draws samples for scenes: a `Predictor`, with its `test` and `predict`.

    A subclass defines how samples of one scene are drawn (`predict_draws`) and, if it is trained here, its
    training. All drawing is in evaluation mode and without gradients; a method that needs them turns them on with
    `torch.enable_grad()`.

    Args:
        samples: number of signals drawn for each context in test and predict.
        draw_batch: how many of them are drawn in one batch: faster, but with more memory. A sample's last digits
            depend on it, and on nothing else: draws 0 to n − 1 are always drawn together, then the next n,
            whatever is finished or requested. `samples` should therefore be a multiple of it.
    """

    without_effect = frozenset({"samples"})

    # The classes that `None` stands for in a constructor, by argument: configs name these parts.
    stock_parts: ClassVar[dict[str, type]] = {}

    def __init__(self, samples: int = 4, draw_batch: int = 1) -> None:
        super().__init__()
        check_at_least(1, samples=samples, draw_batch=draw_batch)
        self.samples = samples
        self.draw_batch = draw_batch
        self.plan = Plan()
        self.scene_scores = SceneScores()
        # If scenes are divided so that each is tested or predicted once, a process may get none. (Lightning sets
        # this to false in the constructors of modules and data modules, so a class attribute would have no
        # effect.)
        self.allow_zero_length_dataloader_with_multiple_devices = True

    @abstractmethod
    def predict_draws(self, key: str, context: Views, params: Any, draws: range) -> Iterator[Prediction]:
        """Draw some samples of one scene at once.

        Args:
            key: name of the scene.
            context: its context, a batch of one.
            params: parameters under which the signals are to be observed, a batch of one.
            draws: the samples' numbers. A sample must depend on its number, the key, the seed, context and params
                alone: take noise from `randomness.named_noise` with names such as ("predict", key, draw).
        """

    # --- drawing ----------------------------------------------------------------------------------------

    def predictions(self, request: Request) -> Iterator[Prediction]:
        """Draw what `plan` does not leave out, scene by scene, each sample as the iterator is advanced.

        Whatever mode the module is in, samples are drawn in evaluation mode.
        """
        check_request(request)
        return advanced_in_evaluation(
            self, self._draw_pending(request, lambda key: self.plan.pending(key, self.samples))
        )

    def draw(
        self,
        context: Views,
        params: Any,
        samples: int = 1,
        seed: int | None = None,
        keys: Sequence[str] | None = None,
    ) -> list[Prediction]:
        """Draw samples for one scene or several, each observed under `params`.

        They are the samples that `dfm predict --seed_everything SEED` draws for scenes of the same keys.

        Args:
            context: observations that the samples are to agree with: of one scene without a dimension for scenes
                (v c h w), as in a data set's item, or of several scenes (b v c h w).
            params: parameters under which the samples are to be observed, with the same leading dimensions.
            samples: number of samples for each scene.
            seed: what they depend on besides weights and data; the user's seed if None, 0 without one.
            keys: names of the scenes, on which their noise depends: by default "scene0" and so on.

        Returns:
            The samples of the first scene, then those of the second, and so on.
        """
        check_at_least(1, samples=samples)
        if context.observation.ndim == 4:
            context, params = map_tensors(lambda tensor: tensor[None], (context, params))
        context, params = map_tensors(lambda tensor: tensor.to(self.device), (context, params))
        names = [f"scene{row}" for row in range(len(context.observation))] if keys is None else list(keys)
        request = Request(context, params, names)
        check_request(request)
        with with_seed(seed):
            drawn = self._draw_pending(request, lambda key: list(range(samples)))
            return list(advanced_in_evaluation(self, drawn))

    def _draw_pending(self, request: Request, pending_of: Callable[[str], list[int]]) -> Iterator[Prediction]:
        request = differentiable(request)
        for index, key in enumerate(request.key):
            context, params, truth = (
                map_tensors(lambda t, i=index: t[i : i + 1], part)
                for part in (request.context, request.params, request.truth)
            )
            pending = pending_of(key)
            for group in draw_groups(pending, self.draw_batch):
                for prediction in self.predict_draws(key, context, params, group):
                    if prediction.sample in pending:
                        yield prediction._replace(truth=truth)

    @property
    def draws(self) -> int:
        """Return how many signals predict draws for each context if nothing is left out: `samples`, in whole
        batches.
        """
        return -(-self.samples // self.draw_batch) * self.draw_batch

    def work(self, batch: Batch | Request) -> int:
        """See `Predictor`: one piece a draw. A model that counts other pieces calls `plan.worked` for each."""
        return len(batch.key) * self.draws

    def settings(self) -> dict[str, Any]:
        """See `Predictor`: all constructor arguments of the model and its parts.

        Arguments that their classes declare to be without effect are left out (see `Recorded`).
        """
        record = self.record()
        return flat({"model": record.pop(CLASS), **record})

    # --- Lightning's steps ------------------------------------------------------------------------------

    @evaluated
    def test_step(self, batch: Batch, batch_idx: int) -> Any:
        """Score how well draws for held-out scenes, observed like target and novel views, agree with these.

        See `score_draws`; where `truth` has the true "signal", of a tensor's shape, drawn signals are scored too
        (`score_signals`); and, where the context is an observation of the signal, how draws agree with it
        (`score_consistency`). `score` adds a problem's own. The views are returned as "pictures" too, for reports.
        """
        draws: dict[str, list[Prediction]] = {key: [] for key in batch.key}
        for prediction in self.predictions(as_request(batch)):
            draws[prediction.key].append(prediction)
        truths = concatenate([batch.target, batch.novel], dim=1).observation
        scores = {}
        for row, key in enumerate(batch.key):
            if draws[key]:  # a report has measured the others before
                scene = map_tensors(lambda t, i=row: t[i : i + 1], batch)._replace(key=[key])
                scores[key] = self._score_scene(draws[key], scene, truths[row])
        for key, scene_scores in scores.items():
            self.scene_scores.add(key, scene_scores)
        given = dict(zip(batch.key, batch.context.observation, strict=True))
        known = dict(zip(batch.key, truths, strict=True))
        pictures = {
            key: {
                "context": given[key],
                "true": known[key],
                "sample": torch.stack([prediction.observation for prediction in draws[key]]),
            }
            for key in scores
        }
        return {"scores": scores, "pictures": pictures}

    def _score_scene(self, draws: list[Prediction], scene: Batch, truth: Float[Tensor, "v *o"]) -> dict[str, Any]:
        signals, context = [draw.signal for draw in draws], scene.context
        scores: dict[str, Any] = score_draws(torch.stack([draw.observation for draw in draws]), truth)
        scores |= score_signals(signals, scene.truth, 0)
        observed = [self.observe_context(signal, context) for signal in signals]
        seen = [each for each in observed if each is not None]
        if seen and context.observation.numel():
            scores |= score_consistency(seen, context.observation[0], self.context_deviation(context))
        return {**scores, **self.score(draws, scene)}

    def score(self, draws: list[Prediction], scene: Batch) -> dict[str, Any]:
        """Return further scores of the draws of one scene, beside the stock ones: numbers by name.

        Args:
            draws: all draws of the scene; signals are batches of one.
            scene: with what is true of it, a batch of one.
        """
        return {}

    def observe_context(self, signal: Any, context: Views) -> Tensor | None:
        """Observe a signal (a batch of one) under the context's parameters; None where that cannot be done."""
        return None

    def context_deviation(self, context: Views) -> Tensor | None:
        """Return the noise's standard deviation in a context, shaped to be broadcast to it; None if not known."""
        return None

    def predict_step(self, batch: Request, batch_idx: int) -> Iterator[Prediction] | list[Prediction]:
        """Return the `predictions` of a batch.

        They are drawn as the iterator is advanced, so that a long prediction can be written sample by sample. If
        the trainer returns them, they are drawn at once: later, its precision and its device are gone.
        """
        predictions = self.predictions(batch)
        returned = self._trainer is not None and self.trainer.predict_loop.return_predictions
        return list(predictions) if returned else predictions

    def on_test_batch_start(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Refuse anything but a batch before it is used; register the scenes to be scored."""
        check_kind(batch, Batch)
        super().on_test_batch_start(batch, batch_idx, dataloader_idx)

    def on_predict_batch_start(self, batch: Request, batch_idx: int, dataloader_idx: int = 0) -> None:
        """Refuse anything but a request before it is used."""
        check_kind(batch, Request)

    def on_test_start(self) -> None:
        """Refuse unusable weights."""
        super().on_test_start()
        self.check_weights()

    def on_predict_start(self) -> None:
        """See `on_test_start`."""
        self.check_weights()

    def check_weights(self) -> None:
        """Raise `UserError` if a weight is infinite or not a number."""
        check_usable(self, "the model")
