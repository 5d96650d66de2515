"""Add a book that nobody has read to the demo's catalogue, by its title alone, and see who gets it recommended.

python examples/new_book.py outputs/demo-pretrained
"""

import json
import sys
from pathlib import Path

from transformers import AutoModel, AutoTokenizer

from e4srec_hf.catalogue import add_items
from e4srec_hf.data import make_demo_world

TITLE = "The Harbour Detectives: The Empty Chair"
READERS = 600


def main(directory: str) -> None:
    """Add the book, and recommend to the first readers of the demo."""
    titles = json.loads(Path(directory, "item_titles.json").read_text(encoding="utf-8"))
    model = AutoModel.from_pretrained(directory)
    items, fit = add_items(model, AutoTokenizer.from_pretrained(directory), ["new"], titles=[TITLE])
    titles["new"] = TITLE
    print(f"Added by its title alone: {TITLE}")
    if fit is not None:
        print(f"Titles tell {fit.r2_held_out:.0%} of the variance of item vectors, on items that were held out.")

    readers = make_demo_world().sequences.select(range(READERS))
    inputs = items(list(readers["item_ids"]), is_split_into_words=True, padding=True, return_tensors="pt")
    recommended = [items.convert_ids_to_tokens(ids) for ids in model.recommend(**inputs).item_ids.tolist()]
    places = {reader: ten.index("new") for reader, ten in enumerate(recommended) if "new" in ten}
    chance = READERS * len(recommended[0]) / len(titles)
    print(f"{len(places)} of {READERS} readers get it among their ten; a book drawn by lot would reach {chance:.0f}.")
    if places:
        reader = min(places, key=lambda number: places[number])
        print(f"The one to whom it comes first had last {titles[readers[reader]['item_ids'][-1]]}, and gets")
        for place, item in enumerate(recommended[reader], start=1):
            print(f"{place:3}. {item:5}  {titles[item]}")


if __name__ == "__main__":
    main(sys.argv[1])
