"""Add a book that nobody has read to the demo's catalogue, by its title alone, and see who gets it recommended.

python examples/new_book.py outputs/demo-pretrained
"""

import json
import sys
from pathlib import Path

from transformers import AutoModel, AutoTokenizer

from e4srec_hf.catalogue import add_items

SERIES = "The Harbour Detectives"
TITLE = f"{SERIES}, Book 11: The Empty Chair"


def main(directory: str) -> None:
    """Recommend for a reader of the last five books of a series to which a new one is added."""
    titles = json.loads(Path(directory, "item_titles.json").read_text(encoding="utf-8"))
    model = AutoModel.from_pretrained(directory)
    items, fit = add_items(model, AutoTokenizer.from_pretrained(directory), ["new"], titles=[TITLE])
    titles["new"] = TITLE
    print(f"Added by its title alone: {TITLE}")
    if fit is not None:
        print(f"Titles tell {fit.r2_held_out:.0%} of the variance of item vectors, on items that were held out.")

    books = sorted(
        (int(title.split("Book ")[1].split(":")[0]), item) for item, title in titles.items() if SERIES in title
    )
    history = [item for number, item in books if 6 <= number <= 10]
    best = model.recommend(**items([history], is_split_into_words=True, return_tensors="pt"), top_k=len(titles))
    recommended = items.convert_ids_to_tokens(best.item_ids[0].tolist())
    print(f"Ten recommendations for a reader who last had {titles[history[-1]]}:")
    for place, item in enumerate(recommended[:10], start=1):
        print(f"{place:3}. {item:5}  {titles[item]}")
    print(f"The new book comes at place {recommended.index('new') + 1} of {len(titles)}.")


if __name__ == "__main__":
    main(sys.argv[1])
