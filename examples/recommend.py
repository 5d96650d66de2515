"""Recommend the next items after a history, with a saved model from a folder or the Hub.

python examples/recommend.py outputs/demo --history B0221 B0434 --top_k 5
"""

import argparse

from e4srec_hf.serving.recommending import as_lines, recommend_items


def main() -> None:
    """Print a line an item: its place, score, raw id and, where the model brings titles, title."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="Folder or Hub id.")
    parser.add_argument("--base_model", help="Another base than the recorded one: folder or Hub id.")
    parser.add_argument("--history", nargs="*", required=True, help="Raw item ids, the oldest first.")
    parser.add_argument("--top_k", type=int, help="By default 10, or the whole catalogue where it is smaller.")
    parser.add_argument("--include_seen", action="store_true", help="Allow items of the history.")
    parser.add_argument(
        "--unknown", choices=["error", "unk"], default="error", help="Refuse unknown ids, or pass over."
    )
    arguments = parser.parse_args()
    recommended = recommend_items(
        arguments.model,
        arguments.history,
        top_k=arguments.top_k,
        exclude_seen=not arguments.include_seen,
        on_unknown=arguments.unknown,
        base_model=arguments.base_model,
    )
    print(as_lines(recommended))


if __name__ == "__main__":
    main()
