"""A live session, against reading the whole history anew: one click and ten recommendations, and a click each.

    python benchmarks/sessions.py

In a window with room, the histories are shorter than ``max_history`` and a click is one token. A full window moves with
each click and is read again. Sessions have read their history before the clock starts, as those of users who are there.
"""

import argparse
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from measuring import RESULTS, llama_config, seconds, write_result
from torch import Tensor
from transformers import LlamaModel, PreTrainedTokenizerBase

from e4srec_hf import E4SRecModel
from e4srec_hf.data import build_item_tokenizer, tokenize_histories
from e4srec_hf.serving import Recommender, Session, Sessions
from e4srec_hf.training.tiny_base import train_byte_level_tokenizer

WAYS = ("session", "anew, instruction kept", "anew")


@dataclass
class Asked:
    """What is asked, of whom.

    Attributes:
        model: The model.
        items: Its item tokenizer.
        logs: The items of each user, those that are clicked at the end.
        first: How many items come before the first click.
        clicks: How many clicks.
        times: How many recommendations after each.
    """

    model: E4SRecModel
    items: PreTrainedTokenizerBase
    logs: list[list[str]]
    first: int
    clicks: int
    times: int

    def sessions(self) -> list[Session]:
        """A session a user that has read all before the first click."""
        store = Sessions(Recommender(self.model, self.items))
        sessions = [store.start(user, log[: self.first]) for user, log in enumerate(self.logs)]
        for session in sessions:
            session.vector()
        return sessions

    def ask(self, way: str, sessions: list[Session], scores: list[Tensor]) -> None:
        """Click and ask, in one of the ways; ``scores`` gets the last ones of each user."""
        with self.model.kept_instruction() if way == "anew, instruction kept" else nullcontext():
            for log, session in zip(self.logs, sessions, strict=True):
                for place in range(self.first, self.first + self.clicks):
                    if way == "session":
                        session.append(log[place])
                    for _ in range(self.times):
                        found = self.recommend(log[: place + 1]) if way != "session" else session.recommend()
                scores.append(torch.tensor([score for _, score, *_ in found]))

    def recommend(self, history: list[str]) -> list[tuple[int, float]]:
        """The items and scores that the model gives for a history."""
        batch = tokenize_histories(self.items, [history]).to(self.model.score.weight.device)
        best = self.model.recommend(**batch)
        return list(zip(best.item_ids[0].tolist(), best.scores[0].tolist(), strict=True))


def compare(asked: Asked, rounds: int, device: str) -> dict[str, Any]:
    """Seconds a user in each way, and how far the scores are apart."""
    times, scores = dict.fromkeys(WAYS, 0.0), dict[str, Tensor]()
    for counts in [False] + [True] * rounds:  # the first round is for warming up
        for way in WAYS:
            found: list[Tensor] = []
            times[way] += counts * seconds(partial(asked.ask, way, asked.sessions(), found), device)
            scores[way] = torch.stack(found)  # (users, 10)
    difference = (scores["session"] - scores["anew"]).abs().max() / scores["anew"].abs().max()
    return {
        "seconds": {way: taken / rounds / len(asked.logs) for way, taken in times.items()},
        "session_against": {way: times[way] / times["session"] for way in WAYS[1:]},
        "largest_relative_difference_of_scores": float(difference),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--results", default=str(RESULTS), help="Folder to write to.")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--hidden_size", type=int, default=512)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--history", type=int, default=50, help="Items of a history before the clicks.")
    parser.add_argument("--clicks", type=int, default=10, help="How many clicks, or recommendations after one.")
    parser.add_argument("--users", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    words = train_byte_level_tokenizer()
    base = LlamaModel(llama_config(len(words), arguments.layers, arguments.hidden_size))
    model = E4SRecModel.from_base(base, torch.randn(arguments.items + 2, 64), tokenizer=words)
    model = model.to(arguments.device).eval()
    items = build_item_tokenizer(str(number) for number in range(arguments.items))
    length, clicks = arguments.history + arguments.clicks, arguments.clicks
    logs = [list(map(str, row)) for row in torch.randint(arguments.items, (arguments.users, length)).tolist()]
    figures: dict[str, Any] = {"prompt_tokens": [len(model.instruction_ids), len(model.response_ids)]}
    for window, max_history in {"with room": length, "full": arguments.history}.items():
        model.config.max_history = max_history
        often = Asked(model, items, logs, arguments.history, 1, clicks)
        figures[f"window {window}"] = {
            "bytes_of_a_session": often.sessions()[0].nbytes,
            f"a click and {clicks} recommendations": compare(often, arguments.rounds, arguments.device),
            f"{clicks} clicks, a recommendation after each": compare(
                Asked(model, items, logs, arguments.history, clicks, 1), arguments.rounds, arguments.device
            ),
        }
    shape = f"{arguments.layers}x{arguments.hidden_size}"
    write_result("sessions" + ("" if shape == "4x512" else f"-{shape}"), arguments, figures)


if __name__ == "__main__":
    main()
