"""Commands: ``e4srec prepare``, ``push``, ``pull``, ``card``, ``verify``, ``recommend``, ``import-reference``."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from huggingface_hub.errors import HTTPError  # that of the HTTP library in use

from ..cards.model_card import refresh_model_card
from ..convert.reference import REFERENCE_RESPONSE, import_item_embeddings
from ..convert.reference import import_reference as import_model
from ..data import load_sequences
from ..hub.pull import pull as pull_model
from ..hub.push import push_folder
from ..hub.verify import verify as verify_repo
from ..modeling.configuration_e4srec import PAPER_INSTRUCTION
from ..serving.recommending import as_lines, recommend_items
from .prepare import EPILOG, prepare_command

app = typer.Typer(
    help="E4SRec on the Hugging Face Hub: share recommenders, and use those of others.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("prepare", epilog=EPILOG)(prepare_command)

Directory = Annotated[Path, typer.Argument(help="Folder of a saved model.")]
Repo = Annotated[str, typer.Argument(help="org/name on the Hub.")]
Source = Annotated[str, typer.Argument(help="Folder or Hub id.")]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit.")]
Token = Annotated[str | None, typer.Option(help="Of an account on the Hub; by default the one you are logged in with.")]


@app.command(epilog="Example: e4srec push outputs/demo org/e4srec-demo --private")
def push(
    directory: Directory,
    repo_id: Repo,
    message: Annotated[str | None, typer.Option(help="Of the commit.")] = None,
    private: Annotated[bool | None, typer.Option("--private/--public", help="A repo that is made.")] = None,
    revision: Annotated[str | None, typer.Option(help="Branch; made where it does not exist.")] = None,
    create_pr: Annotated[bool, typer.Option("--create-pr", help="Make a pull request of it.")] = False,
    token: Token = None,
) -> None:
    """Push a saved model to the Hub, as one commit."""
    info = push_folder(
        directory,
        repo_id,
        commit_message=message,
        private=private,
        revision=revision,
        create_pr=create_pr,
        token=token,
    )
    typer.echo(f"Pushed {directory} to {repo_id}, commit {info.oid}\n{info.pr_url or info.commit_url}")


@app.command(epilog="Example: e4srec pull org/e4srec-demo outputs/pulled")
def pull(
    repo_id: Repo,
    directory: Annotated[Path, typer.Argument(help="Folder to bring it to.")],
    revision: Revision = None,
    token: Token = None,
) -> None:
    """Bring a model from the Hub into a folder. Nothing of it is run."""
    commit = pull_model(repo_id, directory, revision=revision, token=token)
    typer.echo(f"Pulled {repo_id}, commit {commit}, to {directory}")


@app.command(epilog="Example: e4srec card outputs/demo --repo-id org/e4srec-demo")
def card(
    directory: Directory,
    repo_id: Annotated[str | None, typer.Option(help="How its example calls the model.")] = None,
    licence: Annotated[str | None, typer.Option("--license", help="As the Hub names licences.")] = None,
) -> None:
    """Write the model card anew, from what lies in the folder."""
    refresh_model_card(directory, repo_id, license=licence)
    typer.echo(f"Wrote {directory / 'README.md'}")


@app.command(
    epilog="Example: e4srec verify org/e4srec-demo\n\nExit status: 0 passed, 1 failed, 2 could not be checked."
)
def verify(
    source: Source,
    revision: Revision = None,
    check_base: Annotated[bool, typer.Option(help="Read the base's config, for the shapes of LoRA.")] = True,
    token: Token = None,
) -> None:
    """Check that a repo is what a release of this package writes, before you trust its code. Nothing of it is run."""
    verification = verify_repo(source, revision=revision, token=token, check_base=check_base)
    typer.echo(str(verification))
    raise typer.Exit(verification.exit_status)


@app.command(
    epilog="Example: e4srec import-reference SASRec_item_embed.pkl outputs/imported --sequences Beauty.txt "
    "--adapter adapter.pth --base-model meta-llama/Llama-2-13b-hf"
)
def import_reference(
    item_embeddings: Annotated[Path, typer.Argument(help="Its item table, SASRec_item_embed.pkl.")],
    output: Annotated[Path, typer.Argument(help="A new folder; or a .safetensors file for the item table alone.")],
    sequences: Annotated[
        str | None, typer.Option(help="The sequences it was trained on. They say which row is which item.")
    ] = None,
    adapter: Annotated[Path | None, typer.Option(help="adapter.pth, or pytorch_model.bin of a checkpoint.")] = None,
    base_model: Annotated[str | None, typer.Option(help="Hub id or folder of the base it was trained on.")] = None,
    base_model_revision: Annotated[str | None, typer.Option(help="Revision of that base.")] = None,
    lora: Annotated[Path | None, typer.Option(help="Folder of its PEFT adapter; by default that of --adapter.")] = None,
    lora_alpha: Annotated[float | None, typer.Option(help="Where no adapter_config.json says it.")] = None,
    instruction: Annotated[str, typer.Option(help="Prompt before the items.", show_default=False)] = PAPER_INSTRUCTION,
    response: Annotated[str, typer.Option(help="Prompt behind the items.", show_default=False)] = REFERENCE_RESPONSE,
    max_history: Annotated[int | None, typer.Option(help="By default the longest sequence.")] = None,
    token: Token = None,
) -> None:
    """Turn a model of the reference implementation, or its item table, into one of this package.

    Of its pickles, what rebuilds tensors is read, and anything else is refused by name. An item table alone goes to a
    .safetensors file: with --sequences as examples/train.py --item_embeddings takes it, otherwise row for row.
    """
    if adapter is not None:
        if sequences is None or base_model is None:
            raise ValueError("A model needs --sequences and --base-model besides --adapter.")
        import_model(
            output,
            base_model=base_model,
            item_embeddings=item_embeddings,
            adapter=adapter,
            sequences=load_sequences(sequences),
            lora=lora,
            lora_alpha=lora_alpha,
            base_model_revision=base_model_revision,
            instruction=instruction,
            response=response,
            max_history=max_history,
            token=token,
        )
        typer.echo(f"Imported to {output}")
        return
    table = import_item_embeddings(
        output,
        item_embeddings=item_embeddings,
        sequences=None if sequences is None else load_sequences(sequences),
    )
    first = "row 0 is padding" if sequences is None else "[PAD], [UNK], then the items as they first appear"
    typer.echo(f"Wrote {output}: {table.shape[0]:,} × {table.shape[1]} ({first})")


@app.command(epilog="Example: e4srec recommend outputs/demo B0221 B0434 --top-k 5")
def recommend(
    source: Source,
    history: Annotated[list[str] | None, typer.Argument(help="Raw item ids, the oldest first.")] = None,
    top_k: Annotated[int | None, typer.Option(help="By default 10.")] = None,
    include_seen: Annotated[bool, typer.Option("--include-seen", help="Allow items of the history.")] = False,
    skip_unknown: Annotated[bool, typer.Option("--skip-unknown", help="Pass over ids that are not known.")] = False,
    base_model: Annotated[str | None, typer.Option(help="Another base than the recorded one.")] = None,
    revision: Revision = None,
    token: Token = None,
) -> None:
    """Recommend what comes next, with the installed code: none of the repo is run."""
    recommended = recommend_items(
        source,
        history or [],
        top_k=top_k,
        exclude_seen=not include_seen,
        on_unknown="unk" if skip_unknown else "error",
        base_model=base_model,
        revision=revision,
        token=token,
    )
    typer.echo(as_lines(recommended))


def main() -> None:
    """Run a command; what the user can mend is one line on stderr."""
    try:
        app()
    except (OSError, ValueError, HTTPError) as error:
        typer.echo(f"e4srec: {error}", err=True)
        sys.exit(1)
