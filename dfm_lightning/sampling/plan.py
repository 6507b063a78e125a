"""The draws that a run leaves out, and the listeners to its progress."""

from collections.abc import Callable

Finished = Callable[[str, int], bool]
Listener = Callable[[int], None]
Withdraw = Callable[[], None]


class Plan:
    """The place where callbacks and a model that draws samples meet.

    A writer registers the draws it already has, a progress bar listens to the work done, and the model queries and
    notifies. Each registration returns a function that withdraws it.
    """

    def __init__(self) -> None:
        self._finished: list[Finished] = []
        self._listeners: list[Listener] = []

    def leave_out(self, finished: Finished) -> Withdraw:
        """Leave out the draws for which `finished(key, sample)` is true.

        With several parties, a draw is left out only if none of them needs it.
        """
        return _register(self._finished, finished)

    def follow(self, listener: Listener) -> Withdraw:
        """Call `listener(pieces)` whenever some pieces of work have been done (see `Predictor.work`)."""
        return _register(self._listeners, listener)

    def is_finished(self, key: str, sample: int) -> bool:
        """Tell whether a draw of the scene `key` is to be left out."""
        return bool(self._finished) and all(finished(key, sample) for finished in self._finished)

    def pending(self, key: str, samples: int) -> list[int]:
        """List those of the first draws of the scene `key` that are not left out."""
        return [sample for sample in range(samples) if not self.is_finished(key, sample)]

    def worked(self, pieces: int) -> None:
        """Notify all listeners that some pieces of work have been done."""
        for listener in self._listeners:
            listener(pieces)


def _register(parties: list, party: Callable) -> Withdraw:
    parties.append(party)

    def withdraw() -> None:
        if party in parties:
            parties.remove(party)

    return withdraw
