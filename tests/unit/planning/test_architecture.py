import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    GraniteConfig,
    LlamaConfig,
    MistralConfig,
    MptConfig,
    Olmo2Config,
    OPTConfig,
    PreTrainedConfig,
    Qwen2Config,
    Qwen3Config,
    StableLmConfig,
)

from pta_ray.config import Lora
from pta_ray.planning.architecture import architecture_of
from pta_ray.training.lora import add_adapters

SIZES = {
    "vocab_size": 96, "hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 6, "intermediate_size": 80,
    "pad_token_id": 0,
}  # fmt: skip
GROUPED = {**SIZES, "num_key_value_heads": 2}

CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "llama, grouped, tied": LlamaConfig(**GROUPED, tie_word_embeddings=True),
    "llama, wide heads, biased": LlamaConfig(**GROUPED, head_dim=16, attention_bias=True, mlp_bias=True),
    "mistral": MistralConfig(**GROUPED),
    "granite": GraniteConfig(**GROUPED, tie_word_embeddings=True),
    "qwen2": Qwen2Config(**GROUPED),
    "qwen3": Qwen3Config(**GROUPED, head_dim=16),
    "gemma2": Gemma2Config(**GROUPED, head_dim=16),
    "olmo2": Olmo2Config(**GROUPED),
    "stablelm": StableLmConfig(**GROUPED, use_qkv_bias=True),
    "stablelm, parallel": StableLmConfig(**GROUPED, use_parallel_residual=True),
    "gpt_neox": GPTNeoXConfig(**SIZES),
    "gpt_neox, tied, unbiased": GPTNeoXConfig(**SIZES, attention_bias=False, tie_word_embeddings=True),
    "mpt": MptConfig(vocab_size=96, d_model=48, n_layers=3, n_heads=6),
    "opt": OPTConfig(vocab_size=96, hidden_size=48, num_hidden_layers=3, num_attention_heads=6, ffn_dim=80,
                     max_position_embeddings=40, word_embed_proj_dim=48),
    "opt, unbiased, normed behind": OPTConfig(vocab_size=96, hidden_size=48, num_hidden_layers=3, ffn_dim=80,
                                              num_attention_heads=6, word_embed_proj_dim=48, enable_bias=False,
                                              do_layer_norm_before=False),
    "gpt2": GPT2Config(vocab_size=96, n_embd=48, n_layer=3, n_head=6, n_positions=40),
    "gpt2, narrow": GPT2Config(vocab_size=96, n_embd=48, n_layer=3, n_head=6, n_positions=40, n_inner=80),
}  # fmt: skip


def model_of(config: PreTrainedConfig) -> torch.nn.Module:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_model_has_as_many_parameters_as_its_configuration_says(name: str) -> None:
    config, model = CONFIGS[name], model_of(CONFIGS[name])
    architecture = architecture_of(config.to_dict())
    assert architecture.parameters == sum(p.numel() for p in model.parameters())
    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    assert architecture.embedding == head.weight.numel()
    assert architecture.tied == (head.weight is embeddings.weight)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_linear_layers_are_those_of_the_model(name: str) -> None:
    model, architecture = model_of(CONFIGS[name]), architecture_of(CONFIGS[name].to_dict())
    matrices = {
        path: module.weight.numel()
        for path, module in model.named_modules()
        if hasattr(module, "weight") and module.weight.dim() == 2 and "head" not in path
        and not isinstance(module, torch.nn.Embedding)
    }  # fmt: skip
    assert architecture.body_weights == sum(matrices.values())
    for linear in architecture.linears:
        of_name = [size for path, size in matrices.items() if path.endswith(f".{linear.name}")]
        assert of_name == [linear.inputs * linear.outputs] * architecture.layers


@pytest.mark.parametrize("name", ["llama, grouped, tied", "gpt_neox", "mpt", "gpt2"])
@pytest.mark.parametrize("all_linear", [True, False])
def test_adapters_are_counted_as_peft_makes_them(name: str, all_linear: bool) -> None:
    architecture, model = architecture_of(CONFIGS[name].to_dict()), AutoModelForCausalLM.from_config(CONFIGS[name])
    lora = Lora(rank=4, modules="all-linear" if all_linear else [architecture.linears[0].name, "down_proj"])
    if not all_linear and name in ("gpt_neox", "gpt2"):
        lora = Lora(rank=4, modules=[architecture.linears[0].name])
    add_adapters(model, lora)
    assert architecture.adapters(4, lora.modules) == sum(p.numel() for p in model.parameters() if p.requires_grad)


def test_an_unknown_architecture_is_named_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"\(mamba\) is none of .*llama"):
        architecture_of({"model_type": "mamba"})


def test_a_figure_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="has no intermediate_size"):
        architecture_of({"model_type": "llama", "hidden_size": 8, "vocab_size": 8})
