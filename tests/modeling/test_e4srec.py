"""E4SRec against a plain computation: no batching, no mask, no helper of the package."""

import copy

import pytest
import torch
from torch.nn import functional as F
from transformers import BertConfig, BertModel, ModernBertConfig, ModernBertModel

from e4srec_hf import E4SRecConfig, E4SRecModel
from e4srec_hf.training import prepare_for_training
from tests.conftest import BASE_CONFIGS, INSTRUCTION, RESPONSE, VOCAB, folded_copy, random_batch


def plain_scores(base, model, text_tokenizer, history):
    """Embed the prompt, lift the items, run the base, take the last hidden state, score."""
    embed = base.get_input_embeddings()
    weights = dict(model.named_parameters())
    table = weights["item_embeddings.weight"]
    lifted = [weights["input_proj.weight"] @ table[item] + weights["input_proj.bias"] for item in history]
    parts = []
    if model.config.instruction:
        parts.append(embed(torch.tensor(text_tokenizer.encode(model.config.instruction, add_special_tokens=False))))
    if lifted:
        parts.append(torch.stack(lifted))
    if model.config.response:
        parts.append(embed(torch.tensor(text_tokenizer.encode(model.config.response, add_special_tokens=False))))
    hidden = base(inputs_embeds=torch.cat(parts).unsqueeze(0)).last_hidden_state[0, -1]
    scored = weights["score.weight"] @ hidden
    return scored if model.config.head == "linear" else table @ scored


def items_before(ids, mask, row, column, max_history=50):
    return [i for i, m in zip(ids[row, :column].tolist(), mask[row, :column].tolist(), strict=True) if m and i > 1][
        -max_history:
    ]


@pytest.mark.parametrize("head", ["linear", "tied"])
@pytest.mark.parametrize("kind", list(BASE_CONFIGS))
def test_logits_equal_a_plain_computation(kind, head, make_base, make_model, text_tokenizer):
    bare = make_base(kind)
    model = make_model(copy.deepcopy(bare), head=head)
    folded = folded_copy(bare, model)
    ids, mask = random_batch()
    with torch.no_grad():
        logits = model(ids, mask).logits
        expected = [
            plain_scores(folded, model, text_tokenizer, items_before(ids, mask, row, ids.shape[1]))
            for row in range(len(ids))
        ]
    expected = torch.stack(expected)
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
    assert logits.shape == (len(ids), VOCAB)


@pytest.mark.parametrize("head", ["linear", "tied"])
@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_loss_and_target_logits_equal_a_loop_over_targets(kind, head, make_base, make_model, text_tokenizer):
    bare = make_base(kind)
    model = make_model(copy.deepcopy(bare), head=head, max_history=4)
    folded = folded_copy(bare, model)
    ids, mask = random_batch()
    labels = ids.masked_fill((mask == 0) | (ids == 1), -100)
    labels[3, -2] = -100
    with torch.no_grad():
        output = model(ids, mask, labels=labels)
        scores, losses = [], []
        for row in range(len(ids)):
            for column in range(ids.shape[1]):
                if labels[row, column] != -100:
                    history = items_before(ids, mask, row, column, max_history=4)
                    scores.append(plain_scores(folded, model, text_tokenizer, history))
                    losses.append(torch.logsumexp(scores[-1], 0) - scores[-1][labels[row, column]])
    torch.testing.assert_close(output.logits, torch.stack(scores), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.loss, torch.stack(losses).mean(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", ["bert", "modernbert"])
def test_a_base_that_looks_ahead_gets_one_row_a_target(kind, seed, make_model, text_tokenizer):
    """Random encoders attend almost evenly, which a timid probe takes for looking back only."""
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    torch.manual_seed(seed)
    if kind == "bert":
        bare = BertModel(BertConfig(vocab_size=len(text_tokenizer), **shape), add_pooling_layer=False).eval()
    else:
        tokens = {"pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 0, "cls_token_id": 0, "sep_token_id": 0}
        bare = ModernBertModel(ModernBertConfig(vocab_size=len(text_tokenizer), **shape, **tokens)).eval()
    model = make_model(copy.deepcopy(bare), response="")
    folded = folded_copy(bare, model)
    ids = torch.tensor([[7, 3, 9]])
    with torch.no_grad():
        logits = model(ids, labels=ids).logits
        for column in range(3):
            expected = plain_scores(folded, model, text_tokenizer, ids[0, :column].tolist())
            torch.testing.assert_close(logits[column], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("padding", ["left", "right", "scattered"])
def test_a_history_scores_the_same_alone_and_in_any_batch(padding, make_model):
    model = make_model()
    history = torch.tensor([[7, 3, 9, 21]])
    alone = model(history).logits
    ids, mask = random_batch(width=11)
    columns = {"left": [7, 8, 9, 10], "right": [0, 1, 2, 3], "scattered": [1, 4, 5, 9]}[padding]
    ids[4], mask[4] = 17, 0  # what the mask hides may be anything
    ids[4, columns], mask[4, columns] = history[0], 1
    torch.testing.assert_close(model(ids, mask).logits[4:], alone, rtol=1e-5, atol=1e-5)


def test_unknown_items_are_passed_over(make_model):
    model = make_model()
    with_unknown = torch.tensor([[1, 7, 1, 3, 1]])
    assert torch.equal(model(with_unknown).logits, model(torch.tensor([[7, 3]])).logits)


def test_only_the_last_max_history_items_count(make_model):
    model = make_model(max_history=3)
    long = torch.tensor([[5, 6, 7, 8, 9]])
    assert torch.equal(model(long).logits, model(long[:, -3:]).logits)
    assert not torch.equal(model(long).logits, model(long[:, -2:]).logits)


def test_special_tokens_are_no_targets(make_model):
    model = make_model()
    ids = torch.tensor([[0, 7, 1, 3]])
    output = model(ids, labels=ids)
    assert output.logits.shape == (2, VOCAB)
    torch.testing.assert_close(output.loss, F.cross_entropy(output.logits, torch.tensor([7, 3])))


def test_a_batch_without_targets_has_a_loss_of_zero_that_can_be_backpropagated(make_model):
    model = make_model()
    output = model(torch.tensor([[4, 5]]), labels=torch.tensor([[-100, -100]]))
    output.loss.backward()
    assert output.loss == 0
    assert output.logits.shape == (0, VOCAB)


def test_accumulated_batches_give_the_loss_of_one_large_batch(make_model):
    model = make_model()
    ids, mask = random_batch()
    labels = ids.masked_fill((mask == 0) | (ids == 1), -100)
    whole = model(ids, mask, labels=labels).loss
    n_targets = int((labels != -100).sum())
    parts = [model(ids[s], mask[s], labels=labels[s], num_items_in_batch=n_targets).loss for s in ([0, 1], [2, 3, 4])]
    torch.testing.assert_close(sum(parts), whole)


def test_the_prompt_can_be_left_out(make_base, make_model, text_tokenizer):
    bare = make_base("llama")
    model = make_model(copy.deepcopy(bare), instruction="", response="")
    expected = plain_scores(folded_copy(bare, model), model, text_tokenizer, [7, 3, 9])
    torch.testing.assert_close(model(torch.tensor([[7, 3, 9]])).logits[0], expected, rtol=1e-5, atol=1e-5)
    assert not model.scores_first_item
    with pytest.raises(ValueError, match="Row 1 has no known item, and there is no prompt"):
        model(torch.tensor([[7, 3], [1, 1]]))


@pytest.mark.parametrize("name", ["input_ids", "labels"])
@pytest.mark.parametrize("wrong", [VOCAB, -1])
def test_ids_outside_the_vocabulary_are_named(name, wrong, make_model):
    ids = {"input_ids": torch.tensor([[3, 4], [5, 6]]), "labels": torch.tensor([[3, 4], [5, 6]])}
    ids[name][1, 0] = wrong
    with pytest.raises(ValueError, match=rf"{name}\[1, 0\] is {wrong}, outside the vocabulary of 32 item tokens"):
        make_model()(**ids)


def test_labels_of_another_shape_are_refused(make_model):
    with pytest.raises(ValueError, match=r"labels have the shape \(1, 1\), but input_ids \(1, 2\)"):
        make_model()(torch.tensor([[3, 4]]), labels=torch.tensor([[3]]))


def test_only_the_adapter_is_trained(make_model):
    model = make_model().train()
    ids, mask = random_batch()
    model(ids, mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(name.startswith(("input_proj.", "score.")) or ".lora_" in name for name in trained)
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == (name in trained), name


def test_full_tuning_trains_the_base_and_can_train_the_item_vectors(make_model):
    model = make_model(tuning="full", train_item_embeddings=True)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_trained_weights_are_float32_on_a_bfloat16_base(make_base, make_model):
    base = make_base("llama").to(torch.bfloat16)
    model = make_model(base)
    assert model.dtype == torch.bfloat16
    for name, parameter in model.named_parameters():
        own = not name.startswith("base.") or ".lora_" in name
        assert parameter.dtype == (torch.float32 if own else torch.bfloat16), name
    ids, mask = random_batch()
    labels = ids.masked_fill(mask == 0, -100)
    output = model(ids, mask, labels=labels)
    assert output.loss.dtype == output.logits.dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        mixed = model(ids, mask, labels=labels)
    assert mixed.loss.dtype == torch.float32
    torch.testing.assert_close(mixed.loss, output.loss, rtol=0.05, atol=0.05)


def test_full_tuning_makes_the_whole_base_float32(make_base, make_model):
    model = make_model(make_base("llama").to(torch.bfloat16), tuning="full")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_gradient_checkpointing_gives_the_same_gradients(make_model):
    ids, mask = random_batch()
    labels = ids.masked_fill((mask == 0) | (ids == 1), -100)
    gradients = []
    for checkpointing in (False, True):
        model = make_model(lora={"r": 4, "lora_dropout": 0.0}).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.base.layers[0].gradient_checkpointing
        model(ids, mask, labels=labels).loss.backward()
        gradients.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-5, atol=1e-7)


def test_item_dropout_drops_from_what_is_read_and_not_from_what_is_scored(make_model):
    model = make_model(item_dropout=0.5, head="tied", lora={"r": 4, "lora_dropout": 0.0})
    ids, mask = random_batch()
    without = make_model(head="tied")
    assert torch.equal(model(ids, mask).logits, without(ids, mask).logits)  # evaluation
    read = []
    model.input_proj.register_forward_pre_hook(lambda module, args: read.append(args[0]))
    model.train()(ids, mask, labels=ids.masked_fill((mask == 0) | (ids == 1), -100))
    table = model.item_embeddings.weight
    vectors = torch.cat([part.flatten(0, -2) for part in read]).unsqueeze(1)  # (read, 1, width)
    kept = (vectors == 2 * table) & (vectors != 0)
    assert ((vectors == 0) | kept).all(-1).any(1).all()  # each is an item's, doubled, with zeros in it
    assert 0.4 < (vectors == 0).float().mean() < 0.6
    assert torch.equal(model.scoring_vectors, table)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3", "gemma3"])
def test_base_dropout_drops_from_what_a_layer_adds(kind, make_base, make_model):
    ids, mask = random_batch()
    base = make_base(kind)
    logits = make_model(make_base(kind), tuning="full")(ids, mask).logits
    model = make_model(base, tuning="full", base_dropout=0.5)
    with pytest.raises(RuntimeError, match=r"prepare_for_training\(model\) puts it in"):
        model.train()(ids, mask, labels=ids.masked_fill(mask < 2, -100))
    model.eval()
    for _ in range(2):  # it must not be dropped twice
        prepare_for_training(model)
    assert torch.equal(model(ids, mask).logits, logits)  # evaluation
    base = model.base
    layer = next(module for module in base.modules() if isinstance(module, torch.nn.ModuleList))[0]
    hidden = torch.randn(2, 3, 32)
    added = {}
    arguments = {}
    layer.register_forward_pre_hook(
        lambda module, args, kwargs: arguments.update(args=args, kwargs=kwargs), with_kwargs=True
    )
    base(inputs_embeds=hidden)
    for training in (False, True):
        layer.train(training)
        for module in layer.modules():  # dropout of its own would be in the way
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        output = layer(*arguments["args"], **arguments["kwargs"])
        before = arguments["args"][0] if arguments["args"] else arguments["kwargs"]["hidden_states"]
        added[training] = (output[0] if isinstance(output, tuple) else output) - before
    dropped = added[True].abs() < 1e-6
    assert 0.3 < dropped.float().mean() < 0.7
    torch.testing.assert_close(added[True][~dropped], 2 * added[False][~dropped], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("head", ["tied", "linear"])
@pytest.mark.parametrize("hidden", [32, 8])  # wider and narrower than the item vectors
def test_an_orthogonal_start_scores_a_lifted_item_as_its_own_vector(head, hidden, make_base, make_model, item_table):
    base = make_base(hidden_size=hidden, head_dim=8)
    model = make_model(base, head=head, projection_init="orthogonal")
    lifted = model.input_proj(item_table)
    hidden_states = lifted if head == "linear" else model.score(lifted)
    scores = hidden_states @ model.scoring_vectors.T
    if hidden >= item_table.shape[1]:
        expected = item_table @ item_table.T
    else:  # what is left of a vector in the space that it is lifted to
        basis, _ = torch.linalg.qr(model.input_proj.weight.T)
        expected = item_table @ basis @ basis.T @ item_table.T
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


def test_base_dropout_needs_layers(make_base, make_model):
    with pytest.raises(ValueError, match=r"base_dropout is 0.1, but no stack of layers is found in LlamaModel"):
        prepare_for_training(make_model(make_base(num_hidden_layers=0), tuning="full", base_dropout=0.1))


def test_a_base_without_layers_lifts_items_straight_into_the_head(make_base, make_model):
    model = make_model(make_base(num_hidden_layers=0), tuning="full", head="tied", response="")
    ids, mask = random_batch()
    ids, mask = ids[3:4, -4:], torch.ones_like(mask[3:4, -4:])
    lifted = model.input_proj(model.item_embeddings.weight[ids[0, -1]])
    normed = lifted / (lifted.pow(2).mean() + model.base.config.rms_norm_eps).sqrt()
    expected = model.item_embeddings.weight @ (model.score.weight @ normed)
    torch.testing.assert_close(model(ids, mask).logits[0, 2:], expected[2:], rtol=1e-5, atol=1e-5)


def test_lora_goes_to_the_mlp_of_the_paper_or_to_all_linear_layers(make_model):
    def layers_with_lora(model):
        return {name.rpartition(".")[2] for name, layer in model.base.named_modules() if hasattr(layer, "lora_A")}

    assert layers_with_lora(make_model("llama")) == {"gate_proj", "up_proj", "down_proj"}
    assert layers_with_lora(make_model("gpt2")) == {"c_attn", "c_proj", "c_fc"}
    assert layers_with_lora(make_model("llama", lora={"target_modules": ["q_proj"]})) == {"q_proj"}
    with pytest.raises(ValueError, match=r"LoRA does not fit LlamaModel(.|\n)*linear layers are \['down_proj'"):
        make_model("llama", lora={"target_modules": ["no_such_layer"]})


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_item_vectors_that_are_no_numbers_are_refused(broken, make_base, item_table, text_tokenizer):
    table = item_table.clone()
    table[7, 3] = broken
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 32 rows, the first is row 7"):
        E4SRecModel.from_base(make_base(), table, tokenizer=text_tokenizer)


def test_misspelt_settings_are_refused(make_base, item_table, text_tokenizer):
    with pytest.raises(TypeError, match=r"does not know the argument\(s\) heads, max_histroy"):
        E4SRecModel.from_base(make_base(), item_table, tokenizer=text_tokenizer, max_histroy=3, heads="tied")


def test_an_item_table_of_another_size_is_refused(make_base, item_table, text_tokenizer):
    with pytest.raises(ValueError, match="item_embeddings have 32 rows of width 12, but vocab_size is 40"):
        E4SRecModel.from_base(make_base(), item_table, tokenizer=text_tokenizer, vocab_size=40)
    with pytest.raises(ValueError, match=r"must have the shape \(vocab, item dimension\), not \(32,\)"):
        E4SRecModel.from_base(make_base(), item_table[:, 0], tokenizer=text_tokenizer)


def test_a_base_made_in_memory_needs_a_tokenizer_for_the_prompt(make_base, item_table):
    with pytest.raises(ValueError, match="The base is from memory: pass its tokenizer="):
        E4SRecModel.from_base(make_base(), item_table)


def test_a_tokenizer_of_another_base_is_refused(make_base, item_table, text_tokenizer):
    base = make_base()
    base.resize_token_embeddings(100)
    with pytest.raises(ValueError, match=r"prompt has token \d+, but the base has 100 tokens"):
        E4SRecModel.from_base(base, item_table, tokenizer=text_tokenizer)


def test_a_base_that_carries_lora_already_is_refused(make_model):
    model = make_model()
    with pytest.raises(ValueError, match="carries LoRA already"):
        make_model(model.base)


def test_an_encoder_decoder_is_refused(item_table):
    from transformers import T5Config, T5Model

    base = T5Model(T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=16, num_layers=1, num_heads=2))
    with pytest.raises(ValueError, match="T5Model is an encoder-decoder"):
        E4SRecModel.from_base(base, item_table, instruction="", response="")


def test_the_prompt_of_the_paper_is_the_default():
    config = E4SRecConfig()
    assert config.instruction.startswith("Below is an instruction that describes a task, paired with an input")
    assert config.instruction.endswith("### Input:\n")
    assert config.response.strip() == "### Response:"
    assert config.lora["r"] == config.lora["lora_alpha"] == 16
    assert set(config.lora["target_modules"]) == {"gate_proj", "down_proj", "up_proj"}
    assert config.instruction != INSTRUCTION
    assert config.response != RESPONSE


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"head": "mlp"}, 'head must be "linear" or "tied", not \'mlp\''),
        ({"tuning": "prefix"}, 'tuning must be "lora" or "full", not \'prefix\''),
        ({"vocab_size": 1}, "vocab_size must be a whole number of at least 2, not 1"),
        ({"item_embedding_dim": 64.0}, "item_embedding_dim must be a whole number of at least 1, not 64.0"),
        ({"max_history": 0}, "max_history must be a whole number of at least 1, not 0"),
        ({"max_history": True}, "max_history must be a whole number of at least 1, not True"),
        ({"instruction_ids": [3, -1]}, "each of instruction_ids must be a whole number of at least 0, not -1"),
        ({"response_ids": [3.0]}, r"each of response_ids must be a whole number of at least 0, not 3\.0"),
        ({"lora": {"r": 0}}, "lora: r must be a whole number of at least 1, not 0"),
        ({"lora": {"lora_alpha": float("nan")}}, "lora: lora_alpha must be a number above 0, not nan"),
        ({"lora": {"lora_alpha": 0}}, "lora: lora_alpha must be a number above 0, not 0"),
        (
            {"lora": {"target_modules": "(a+)+b"}},
            r"lora: target_modules must be plain names of layers, not '\(a\+\)\+b'",
        ),
        ({"lora": {"exclude_modules": ["q_proj", ".*"]}}, "lora: exclude_modules must be plain names of layers"),
        ({"lora": {"rank_pattern": {"^(a|a)*$": 3}}}, "lora: rank_pattern must be plain names of layers"),
        ({"projection_init": "zero"}, 'projection_init must be "random" or "orthogonal", not \'zero\''),
        ({"item_dropout": 1.0}, "item_dropout must be at least 0 and below 1, not 1.0"),
        ({"base_dropout": -0.1}, "base_dropout must be at least 0 and below 1, not -0.1"),
        ({"format_version": 99}, "format_version 99, this code reads up to 2"),
    ],
)
def test_settings_that_make_no_model_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        E4SRecConfig(**settings)
