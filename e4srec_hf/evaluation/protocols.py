"""The choices of an evaluation: seen items, ties, and who is in the mean."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Protocol:
    """What is decided besides the model, the targets and the negatives.

    Attributes:
        name: ``"strict"``, the default, or ``"reference"``.
        hides_seen: Whether the items of a history are hidden when the whole catalogue is ranked.
        hides_seen_negatives: The same for a ranking among sampled negatives.
        ties_against: Whether an item with the score of the target is placed before it.
        counts_everyone: Whether users without a target are in the mean, as misses.
        counts_repeats: Whether a negative that is listed twice takes two places.
        counts_padding: Whether the row of a linear head that stands for padding takes a place in the whole catalogue.
        places: A target beyond this place is a miss; ``None`` is no limit.
    """

    name: str
    hides_seen: bool
    hides_seen_negatives: bool
    ties_against: bool
    counts_everyone: bool
    counts_repeats: bool
    counts_padding: bool
    places: int | None


#: How this package evaluates.
STRICT = Protocol(
    "strict",
    hides_seen=True,
    hides_seen_negatives=True,
    ties_against=True,
    counts_everyone=False,
    counts_repeats=False,
    counts_padding=False,
    places=None,
)
#: As the reference implementation evaluates ``task_type="sequential"``. It leaves ties to `torch.topk`, which has no
#: fixed order for them; the target, which it puts before the negatives, is placed first here.
REFERENCE_PROTOCOL = Protocol(
    "reference",
    hides_seen=True,
    hides_seen_negatives=False,
    ties_against=False,
    counts_everyone=True,
    counts_repeats=True,
    counts_padding=True,
    places=100,
)
PROTOCOLS = {protocol.name: protocol for protocol in (STRICT, REFERENCE_PROTOCOL)}


def protocol_of(name: str) -> Protocol:
    """The protocol of a name.

    Raises:
        ValueError: If there is none.
    """
    if name not in PROTOCOLS:
        raise ValueError(f"protocol must be one of {', '.join(PROTOCOLS)}, not {name!r}.")
    return PROTOCOLS[name]
