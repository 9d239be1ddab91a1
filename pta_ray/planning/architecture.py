"""What a model's config.json says of its size: parameters, linear layers, heads.

One builder for each family of architectures. Parameter counts are exact; tests compare them with transformers' models.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Linear:
    """A matrix that every token is multiplied by."""

    name: str
    """Within its layer, as adapters are asked for."""
    inputs: int
    outputs: int
    bias: bool = False

    @property
    def parameters(self) -> int:
        """Of the matrix and the bias."""
        return self.outputs * (self.inputs + self.bias)


@dataclass(frozen=True)
class Architecture:
    """A decoder-only transformer."""

    family: str
    """`model_type` of its configuration."""
    vocabulary: int
    """Rows of the embeddings, padding included."""
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    intermediate: int
    """Width of the feed-forward block."""
    gated: bool
    """Whether the feed-forward block has a gate beside its upward projection."""
    tied: bool
    """Whether the head is the embeddings' matrix."""
    linears: tuple[Linear, ...]
    """Of one layer."""
    layer_norms: int
    """Parameters of one layer's normalisations."""
    num_norms: int
    """Normalisations of one layer, each over the hidden size."""
    outside: int
    """Parameters besides layers, token embeddings and head: learned positions, the last normalisation."""

    @property
    def embedding(self) -> int:
        """Parameters of the token embeddings, and of an untied head."""
        return self.vocabulary * self.hidden

    @property
    def layer(self) -> int:
        """Parameters of one layer."""
        return sum(linear.parameters for linear in self.linears) + self.layer_norms

    @property
    def parameters(self) -> int:
        """Of the whole model; a tied matrix counts once."""
        return self.layers * self.layer + self.embedding * (1 if self.tied else 2) + self.outside

    @property
    def body_weights(self) -> int:
        """Entries of all matrices in the layers: each token takes two operations for each of them."""
        return self.layers * sum(linear.inputs * linear.outputs for linear in self.linears)

    def adapters(self, rank: int, modules: list[str] | str) -> int:
        """Parameters of low-rank adapters on some of the linear layers, or on `all-linear`."""
        chosen = [linear for linear in self.linears if modules == "all-linear" or _is_named(linear, modules)]
        return self.layers * sum(rank * (linear.inputs + linear.outputs) for linear in chosen)


def _is_named(linear: Linear, modules: list[str] | str) -> bool:
    return any(f".{linear.name}".endswith(f".{wanted}") for wanted in modules)


Config = Mapping[str, Any]


def architecture_of(config: Config) -> Architecture:
    """The architecture that the contents of a config.json describe.

    Raises:
        ValueError: it is of no family that is known here, or lacks a figure; the message says which.
    """
    config = config.get("text_config", config)
    family = str(config.get("model_type"))
    if family not in _FAMILIES:
        raise ValueError(f"its architecture ({family}) is none of {', '.join(sorted(_FAMILIES))}")
    try:
        return _FAMILIES[family](config)
    except KeyError as error:
        raise ValueError(f"its config.json has no {error.args[0]}") from None


def _gated(
    config: Config,
    *,
    qkv_bias: bool = False,
    out_bias: bool = False,
    mlp_bias: bool = False,
    norm_size: int = 1,
    norms: int = 2,
    head_norms: int = 0,
    tied: bool = False,
) -> Architecture:
    """Llama and its relatives: separate projections, a gated feed-forward block, rotary positions.

    Args:
        norm_size: parameters of a normalisation for each entry of the hidden size: 2 with a bias.
        norms: of the hidden size, in a layer.
        head_norms: parameters of those of queries and keys.
        tied: unless the configuration says otherwise.
    """
    hidden, inner, heads = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"]
    kv_heads = config.get("num_key_value_heads") or heads
    size = config.get("head_dim") or hidden // heads
    linears = (
        Linear("self_attn.q_proj", hidden, heads * size, qkv_bias),
        Linear("self_attn.k_proj", hidden, kv_heads * size, qkv_bias),
        Linear("self_attn.v_proj", hidden, kv_heads * size, qkv_bias),
        Linear("self_attn.o_proj", heads * size, hidden, out_bias),
        Linear("mlp.gate_proj", hidden, inner, mlp_bias),
        Linear("mlp.up_proj", hidden, inner, mlp_bias),
        Linear("mlp.down_proj", inner, hidden, mlp_bias),
    )
    return Architecture(
        config["model_type"], config["vocab_size"], hidden, config["num_hidden_layers"], heads, kv_heads, size, inner,
        gated=True, tied=config.get("tie_word_embeddings", tied), linears=linears,
        layer_norms=norms * norm_size * hidden + head_norms, num_norms=norms, outside=norm_size * hidden,
    )  # fmt: skip


def _llama(config: Config) -> Architecture:
    bias = config.get("attention_bias", False)
    return _gated(config, qkv_bias=bias, out_bias=bias, mlp_bias=config.get("mlp_bias", False))


def _qwen3(config: Config) -> Architecture:
    bias = config.get("attention_bias", False)
    size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    return _gated(config, qkv_bias=bias, out_bias=bias, head_norms=2 * size)


def _gemma2(config: Config) -> Architecture:
    bias = config.get("attention_bias", False)
    return _gated(config, qkv_bias=bias, out_bias=bias, norms=4, tied=True)


def _olmo2(config: Config) -> Architecture:
    bias, heads = config.get("attention_bias", False), config["num_attention_heads"]
    size = config.get("head_dim") or config["hidden_size"] // heads
    normed = size * (heads + (config.get("num_key_value_heads") or heads))
    return _gated(config, qkv_bias=bias, out_bias=bias, head_norms=normed)


def _stablelm(config: Config) -> Architecture:
    if config.get("qk_layernorm"):
        raise ValueError("stablelm with qk_layernorm is not known here")
    norms = 1 if config.get("use_parallel_residual") else 2
    return _gated(config, qkv_bias=config.get("use_qkv_bias", False), norm_size=2, norms=norms)


def _plain(
    config: Config,
    linears: tuple[Linear, ...],
    sizes: tuple[int, int, int, int],
    *,
    norm_size: int,
    tied: bool,
    positions: int = 0,
    ends_normed: bool = True,
) -> Architecture:
    """GPT and its relatives: as many heads for keys as for queries, two normalisations, no gate.

    Args:
        sizes: hidden size, layers, heads, width of the feed-forward block.
        positions: rows of learned position embeddings.
        ends_normed: whether a normalisation follows the last layer.
    """
    hidden, layers, heads, inner = sizes
    return Architecture(
        config["model_type"], config["vocab_size"], hidden, layers, heads, heads, hidden // heads, inner,
        gated=False, tied=config.get("tie_word_embeddings", tied), linears=linears,
        layer_norms=2 * norm_size * hidden, num_norms=2,
        outside=positions * hidden + norm_size * hidden * ends_normed,
    )  # fmt: skip


def _gpt_neox(config: Config) -> Architecture:
    hidden, inner, bias = config["hidden_size"], config["intermediate_size"], config.get("attention_bias", True)
    linears = (
        Linear("attention.query_key_value", hidden, 3 * hidden, bias),
        Linear("attention.dense", hidden, hidden, bias),
        Linear("mlp.dense_h_to_4h", hidden, inner, True),
        Linear("mlp.dense_4h_to_h", inner, hidden, True),
    )
    sizes = hidden, config["num_hidden_layers"], config["num_attention_heads"], inner
    return _plain(config, linears, sizes, norm_size=2, tied=False)


def _mpt(config: Config) -> Architecture:
    hidden = config["d_model"]
    inner = 4 * hidden  # whatever its expansion_ratio says: transformers reads none
    linears = (
        Linear("attn.Wqkv", hidden, 3 * hidden),
        Linear("attn.out_proj", hidden, hidden),
        Linear("ffn.up_proj", hidden, inner),
        Linear("ffn.down_proj", inner, hidden),
    )
    return _plain(config, linears, (hidden, config["n_layers"], config["n_heads"], inner), norm_size=1, tied=True)


def _opt(config: Config) -> Architecture:
    hidden, inner, bias = config["hidden_size"], config["ffn_dim"], config.get("enable_bias", True)
    if config.get("word_embed_proj_dim", hidden) != hidden:
        raise ValueError("opt with embeddings of another size than its layers is not known here")
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    attention = tuple(Linear(f"self_attn.{name}", hidden, hidden, bias) for name in names)
    linears = (*attention, Linear("fc1", hidden, inner, bias), Linear("fc2", inner, hidden, bias))
    return _plain(
        config, linears, (hidden, config["num_hidden_layers"], config["num_attention_heads"], inner),
        norm_size=2 if config.get("layer_norm_elementwise_affine", True) else 0, tied=True,
        positions=config["max_position_embeddings"] + 2,  # the first two are never used
        ends_normed=config.get("do_layer_norm_before", True) and not config.get("_remove_final_layer_norm", False),
    )  # fmt: skip


def _gpt2(config: Config) -> Architecture:
    hidden = config["n_embd"]
    inner = config.get("n_inner") or 4 * hidden
    linears = (
        Linear("attn.c_attn", hidden, 3 * hidden, True),
        Linear("attn.c_proj", hidden, hidden, True),
        Linear("mlp.c_fc", hidden, inner, True),
        Linear("mlp.c_proj", inner, hidden, True),
    )
    sizes = hidden, config["n_layer"], config["n_head"], inner
    return _plain(config, linears, sizes, norm_size=2, tied=True, positions=config["n_positions"])


_FAMILIES: dict[str, Callable[[Config], Architecture]] = {
    "llama": _llama,
    "mistral": _llama,
    "granite": _llama,
    "qwen2": lambda config: _gated(config, qkv_bias=True),
    "qwen3": _qwen3,
    "gemma2": _gemma2,
    "olmo2": _olmo2,
    "stablelm": _stablelm,
    "gpt_neox": _gpt_neox,
    "mpt": _mpt,
    "opt": _opt,
    "gpt2": _gpt2,
}
