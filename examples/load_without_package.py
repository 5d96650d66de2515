"""Load an adapter where this package cannot be imported, and check that it recommends what it did when trained.

python examples/load_without_package.py outputs/demo
"""

import json
import sys
from pathlib import Path

sys.modules["e4srec_hf"] = None  # type: ignore[assignment] # from here on, `import e4srec_hf` fails

from transformers import AutoModel, AutoTokenizer  # noqa: E402


def main(directory: str) -> None:
    """Recommend for the sample history that training left in ``directory``."""
    sample = json.loads(Path(directory, "sample_recommendations.json").read_text(encoding="utf-8"))
    titles = json.loads(Path(directory, "item_titles.json").read_text(encoding="utf-8"))

    model = AutoModel.from_pretrained(directory, trust_remote_code=True)
    items = AutoTokenizer.from_pretrained(directory, trust_remote_code=True)
    history = items([sample["history"]], is_split_into_words=True, return_tensors="pt")
    best = model.recommend(**history, top_k=10)

    recommended = items.convert_ids_to_tokens(best.item_ids[0].tolist())
    print(f"Loaded from {directory} by the code in that folder ({type(model).__module__}), without e4srec_hf:")
    for place, item in enumerate(recommended, start=1):
        print(f"{place:3}. {item}  {titles[item]}")
    if recommended != sample["recommended"]:
        sys.exit(f"These are not the recommendations of the trained model: {sample['recommended']}")
    print("The same ten as the trained model gave.")


if __name__ == "__main__":
    main(sys.argv[1])
