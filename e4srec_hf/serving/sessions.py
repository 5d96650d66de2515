"""Live sessions: a history that grows click by click, and what to recommend after each click."""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable
from threading import Lock, RLock
from typing import cast

import torch
from torch import Tensor

from .continued_reading import NOTHING_READ, ReadItems, read_on, why_not_continued
from .recommender import Recommended, Recommender, checked_on_unknown


class Session:
    """The history of one user, who goes on clicking.

    What it recommends is what ``model.recommend`` gives for the whole history. As long as the history has at most
    ``max_history`` items, a new item costs one token and the response. Each one beyond moves the window of the last
    ``max_history`` items, and with it the position and the state of every item: the window is then read again, behind
    the kept instruction. Without a new item nothing is read, whatever is asked for.

    It holds the keys and values of at most ``max_history - 1`` items, and the token of each distinct item. Threads may
    share a session. The weights, the dtype and the device of the model must not change during its life.

    Args:
        recommender: The model. A SASRec reads its short history anew after each click.
        history: Raw item ids to begin with, the oldest first.
        on_unknown: ``"error"`` refuses ids that are not in the catalogue, ``"unk"`` ignores them.

    Raises:
        TypeError: If the history is anything else than a list of strings.
        ValueError: If an id is not known.
    """

    def __init__(self, recommender: Recommender, history: Iterable[str] = (), *, on_unknown: str = "error") -> None:
        self._recommender, self._on_unknown = recommender, checked_on_unknown(on_unknown)
        self._lock = RLock()
        self._window: list[int] = []  # the last max_history items
        self._seen: set[int] = set()
        self._read: ReadItems = NOTHING_READ  # the first items of the window, as the base keeps them
        self._vector: Tensor | None = None  # (1, width) of the history as it is
        self.extend(history)

    @property
    def history(self) -> list[str]:
        """Raw ids of the items that the model reads, the oldest first: at most ``max_history``."""
        with self._lock:
            return cast(list[str], self._recommender.tokenizer.convert_ids_to_tokens(self._window))

    @property
    def nbytes(self) -> int:
        """Memory of the keys and values that are kept for this session, in bytes."""
        with self._lock:
            return sum(part.nbytes for pair in self._read.keys_and_values for part in pair)

    def append(self, item: str) -> None:
        """Add an item at the end of the history. It is read when something is asked for.

        Raises:
            ValueError: If it is not in the catalogue and ``on_unknown`` is ``"error"``; the history stays as it was.
        """
        self.extend([item])

    def extend(self, items: Iterable[str]) -> None:
        """Add items at the end of the history, all of them or none; they are read together.

        Raises:
            TypeError: If an item is no string, or ``items`` is a single one.
            ValueError: As [`append`].
        """
        known = self._recommender.tokens(items, on_unknown=self._on_unknown)
        if not known:
            return
        with self._lock:
            self._seen.update(known)
            self._window += known
            self._vector = None
            if (surplus := len(self._window) - self._recommender.model.config.max_history) > 0:
                del self._window[:surplus]
                self._read = NOTHING_READ  # every state of the window saw the items that left it

    def recommend(
        self, *, top_k: int | None = None, exclude_seen: bool = True, candidates: Iterable[str] | None = None
    ) -> list[Recommended]:
        """What comes next, the best first.

        Args:
            top_k: How many; by default 10, or the whole catalogue where it is smaller.
            exclude_seen: Whether items of the history are left out, also those before the last ``max_history``.
            candidates: Raw ids to choose from; ``None`` is the whole catalogue. Unknown ids are treated as in the
                history.

        Returns:
            At most ``top_k`` items; fewer where no more are left.

        Raises:
            ValueError: If ``top_k`` is larger than the catalogue, a candidate is not known, a score is NaN, or there is
                nothing to read: neither an item nor a prompt.
        """
        top_k = self._recommender.checked_top_k(top_k)
        never = self._recommender.never_recommended(candidates, on_unknown=self._on_unknown)
        with self._lock:
            vector, hidden = self._current_vector(), list(self._seen) if exclude_seen else []
        seen = torch.tensor([hidden], dtype=torch.long, device=vector.device)
        return self._recommender.rank(vector, top_k, seen=seen, never=never)[0]

    def vector(self) -> Tensor:
        """``(width,)`` the vector of the history: its products with ``model.scoring_vectors`` are the scores.

        Raises:
            ValueError: If there is neither an item nor a prompt.
        """
        with self._lock:
            return self._current_vector()[0].clone()

    @torch.no_grad()
    def _current_vector(self) -> Tensor:
        """``(1, width)`` the vector of the history, read if it has changed."""
        if self._vector is None:
            if not (self._window or self._recommender.has_prompt):
                raise ValueError("The history has no known item, and there is no prompt: nothing to read.")
            self._vector = self._read_history()
        return self._vector

    def _read_history(self) -> Tensor:
        model, length = self._recommender.model, len(self._window)
        device = model.item_embeddings.weight.device
        if model.config.model_type == "e4srec":
            task = model.reading_task()
            if not why_not_continued(model, task, max(length, 1)):
                tokens, response = task.prompt
                instruction = self._recommender.instruction.read(task.base, tokens) if len(tokens) else None
                new = torch.tensor([self._window[self._read.length :]], dtype=torch.long, device=device)
                items = model.project(new)[0]  # (items, hidden)
                state, read = read_on(task.base, instruction, self._read, items, response)
                # the next item would move a full window
                self._read = read if length < model.config.max_history else NOTHING_READ
                state = state[None].to(model.score.weight)  # (1, hidden)
                return state if model.config.head == "linear" else model.score(state)
        self._read = NOTHING_READ
        window = torch.tensor([self._window], dtype=torch.long, device=device)
        with self._recommender.instruction:
            return model.history_vectors(window, torch.tensor([length], device=device))


class Sessions:
    """Live sessions by name: as many as fit, the ones that were used last.

    A session goes when it has not been used for ``max_age`` seconds, or when there are more than ``max_sessions`` and
    no other has waited longer. All of them read the instruction once. Threads may share it.

    Args:
        recommender: The model.
        max_sessions: How many are kept.
        max_age: How many seconds a session is kept that nobody uses.
        on_unknown: As for [`Session`].
        clock: Seconds from any beginning.

    Raises:
        ValueError: If a limit is not positive, or ``on_unknown`` is no choice.
    """

    def __init__(
        self,
        recommender: Recommender,
        *,
        max_sessions: int = 1000,
        max_age: float = 1800.0,
        on_unknown: str = "error",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if max_sessions < 1 or not max_age > 0:
            raise ValueError(f"max_sessions and max_age must be positive, not {max_sessions} and {max_age}")
        self._recommender, self._on_unknown = recommender, checked_on_unknown(on_unknown)
        self._max_sessions, self._max_age, self._clock = max_sessions, max_age, clock
        self._sessions: OrderedDict[Hashable, tuple[float, Session]] = OrderedDict()  # the one used last is the last
        self._lock = Lock()

    def start(self, name: Hashable, history: Iterable[str] = ()) -> Session:
        """Begin a session, in the place of one of the same name.

        Raises:
            TypeError: As [`Session.extend`].
            ValueError: As [`Session`].
        """
        session = Session(self._recommender, history, on_unknown=self._on_unknown)
        with self._lock:
            self._sessions.pop(name, None)
            self._sessions[name] = self._clock(), session
            self._evict()
        return session

    def __getitem__(self, name: Hashable) -> Session:
        """The session of that name, which counts as used now. A `KeyError` if there is none, or none any more."""
        with self._lock:
            self._evict()
            if name not in self._sessions:
                raise KeyError(f"There is no session {name!r}: it was never started, ended, or has been evicted.")
            _, session = self._sessions.pop(name)
            self._sessions[name] = self._clock(), session
        return session

    def __contains__(self, name: Hashable) -> bool:
        """Whether there is a session of that name; it does not count as used."""
        with self._lock:
            self._evict()
            return name in self._sessions

    def __len__(self) -> int:
        """How many there are."""
        with self._lock:
            self._evict()
            return len(self._sessions)

    def end(self, name: Hashable) -> None:
        """Let a session go; nothing happens if there is none of that name."""
        with self._lock:
            self._sessions.pop(name, None)

    def _evict(self) -> None:
        oldest = self._clock() - self._max_age
        while self._sessions:
            used, _ = next(iter(self._sessions.values()))
            if used > oldest and len(self._sessions) <= self._max_sessions:
                return
            self._sessions.popitem(last=False)
