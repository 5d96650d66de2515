"""How long the full ranking of all test users takes, as a share of one packed training epoch.

    python benchmarks/evaluation_share.py --dataset Beauty.txt

Both go the way of `RankingTrainer` and `evaluate_ranking`.
"""

import argparse
import tempfile

from measuring import add_arguments, make_world, seconds, spread_sample, write_result
from transformers import TrainingArguments

from e4srec_hf.evaluation.ranking import evaluate_ranking
from e4srec_hf.training.trainer import RankingTrainer


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser, layers=2, hidden_size=128)
    parser.add_argument("--users_per_batch", type=int, default=64)
    parser.add_argument("--batch_size", type=int, default=256, help="Users a batch when ranking.")
    arguments = parser.parse_args()
    world = make_world(arguments)
    with tempfile.TemporaryDirectory() as directory:
        trainer = RankingTrainer(
            world.model,
            TrainingArguments(
                directory,
                num_train_epochs=1,
                per_device_train_batch_size=arguments.users_per_batch,
                use_cpu=arguments.device == "cpu",
                save_strategy="no",
                report_to=[],
                disable_tqdm=True,
            ),
            tokenizer=world.items,
            train_dataset=world.train,
        )
        world.model.train()
        world.model(**trainer.data_collator(spread_sample(world.train, 64).to_list()))  # probes, once for all
        epoch = seconds(trainer.train, arguments.device)
    model = world.model
    ranking = seconds(
        lambda: evaluate_ranking(model, world.test, world.items, batch_size=arguments.batch_size), arguments.device
    )
    write_result(
        "evaluation_share",
        arguments,
        {
            "users_trained_on": len(world.train),
            "users_ranked": len(world.test),
            "items": len(world.items) - 2,
            "seconds": {"one packed epoch": epoch, "full ranking": ranking},
            "full_ranking_of_an_epoch": ranking / epoch,
        },
    )


if __name__ == "__main__":
    main()
