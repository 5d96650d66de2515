"""Training in several processes: what is launched must be what trains."""

import os

import torch
from accelerate.utils import get_int_from_env, parse_flag_from_env
from transformers import TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

#: How launchers say how many processes they started: MPI's names and that of torchrun and accelerate.
SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")


def check_processes(args: TrainingArguments) -> None:
    """Refuse to train where the processes are not those that were asked for, or shard the model.

    Raises:
        ValueError: If the launcher started more processes than train together, one instead of several, or FSDP,
            DeepSpeed or another way of sharding was asked for.
    """
    if kinds := [kind for kind, asked in _sharding(args).items() if asked]:
        raise ValueError(
            f"{kinds[0]} was asked for, and these models are not trained with it: each process holds the whole model. "
            "Launch without it: torchrun --nproc_per_node N, or accelerate launch --multi_gpu --num_processes N."
        )
    launched = get_int_from_env(list(SIZES), 1)
    if launched != args.world_size:
        cpu = "" if args.use_cpu or torch.accelerator.is_available() else " There is no GPU here: add --use_cpu true."
        raise ValueError(
            f"{launched} processes were launched, but accelerate sees {args.world_size}: each would train a model of "
            f"its own, all into {args.output_dir}.{cpu}"
        )
    if launched == 1 and parse_flag_from_env("ACCELERATE_USE_CPU") and "MASTER_ADDR" in os.environ:
        raise ValueError(
            "accelerate launch --cpu --num_processes N has started one process, not N. For N processes on CPUs: "
            "torchrun --nproc_per_node N, with --use_cpu true among the settings of the training."
        )


def _sharding(args: TrainingArguments) -> dict[str, bool]:
    """Ways to divide a model among processes, and whether the arguments or the launcher ask for them."""
    return {
        "FSDP": bool(args.fsdp) or parse_flag_from_env("ACCELERATE_USE_FSDP"),
        "DeepSpeed": bool(args.deepspeed) or parse_flag_from_env("ACCELERATE_USE_DEEPSPEED"),
        "Megatron-LM": parse_flag_from_env("ACCELERATE_USE_MEGATRON_LM"),
        "Model parallelism": bool(args.parallelism_config) or parse_flag_from_env("ACCELERATE_USE_PARALLELISM_CONFIG"),
    }


class LengthGroups(LengthGroupedSampler):
    """Puts histories of similar length together, in an order that depends on the seed and the epoch alone.

    transformers draws it from the generator that dropout uses, which is another in each process.

    Args:
        rows: Rows in an optimizer step of all processes.
        lengths: Length of each row.
        seed: Seed of the order.
    """

    def __init__(self, rows: int, lengths: list[int], *, seed: int) -> None:
        super().__init__(rows, lengths=lengths, generator=torch.Generator())
        self.seed = seed
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Use the order of this epoch from now on."""
        self.generator.manual_seed(self.seed + epoch)
