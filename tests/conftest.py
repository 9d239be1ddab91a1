"""Real components shared by all tests: tokenizers of several kinds, and the demo's models in a quickly trained size."""

import concurrent.futures
import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import settings
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from pta_ray.checkpoint import cache_directory
from pta_ray.tokenizers.byte_tokenizer import ByteTokenizer
from pta_ray.tokenizers.loading import load_tokenizer

# The first example of a test may wait for a kernel to be compiled. Continuous integration tries the same examples each
# time, as hypothesis does there by default: new ones are for those who can look into them.
settings.register_profile("pta-ray", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("pta-ray")

Result = TypeVar("Result")

ROOT = Path(__file__).parent.parent
CORPUS = [
    "def add(first, second):\n    return first + second\n\n\nclass Window:\n    size = 12\n",
    "The tokenization of a text decides what a model can say; the tokenizer's words are not ours.",
    "Der Tokenisierer zerlegt den Text in Stücke. Größe und Länge ändern sich ständig.",
    "Пример текста на русском языке, чтобы байты складывались в слова.",
    "日本語のテキストもトークンに分けられる。中文也一样。",
    "numbers 1234567890 and symbols !@#$%^&*() \t\ttabs\r\nline ends 👍🏽 é e\u0301",
] * 20


def _save(backend: Tokenizer, folder: Path, bos: str | None, eos: str) -> ByteTokenizer:
    names = {"bos_token": bos} if bos else {}
    PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=eos, **names).save_pretrained(folder)
    return load_tokenizer(str(folder), trust_remote_code=False)


@pytest.fixture(scope="session")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> ByteTokenizer:
    """GPT-2 style: byte alphabet, no BOS."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    backend.train_from_iterator(CORPUS, trainer)
    return _save(backend, tmp_path_factory.mktemp("byte_level"), None, "<|end|>")


@pytest.fixture(scope="session")
def small_byte_level(tmp_path_factory: pytest.TempPathFactory) -> ByteTokenizer:
    """Like `byte_level` with hardly any merges, so that one token of the other covers several of its own."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    backend.train_from_iterator(CORPUS, trainer)
    return _save(backend, tmp_path_factory.mktemp("small_byte_level"), "<s>", "</s>")


@pytest.fixture(scope="session")
def sentencepiece(tmp_path_factory: pytest.TempPathFactory) -> ByteTokenizer:
    """Llama style: visible spaces, one more before the text, byte fallback."""
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    backend.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first"), decoders.Fuse()]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend.train_from_iterator(CORPUS, trainers.BpeTrainer(vocab_size=800, special_tokens=special))
    # The byte tokens were special to the trainer only: they stand for text.
    state = json.loads(backend.to_str())
    state["added_tokens"] = [t for t in state["added_tokens"] if not t["content"].startswith("<0x")]
    return _save(Tokenizer.from_str(json.dumps(state)), tmp_path_factory.mktemp("sentencepiece"), "<s>", "</s>")


@pytest.fixture(scope="session")
def lowercase(tmp_path_factory: pytest.TempPathFactory, byte_level: ByteTokenizer) -> ByteTokenizer:
    """Byte level, but it lowercases what it reads."""
    backend = Tokenizer.from_str(byte_level.backend.to_str())
    backend.normalizer = normalizers.Lowercase()
    return _save(backend, tmp_path_factory.mktemp("lowercase"), None, "<|end|>")


@pytest.fixture(scope="session")
def word_piece(tmp_path_factory: pytest.TempPathFactory) -> ByteTokenizer:
    """BERT style: lowercases, drops white space, knows no bytes."""
    backend = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer(lowercase=True)
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    backend.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=400, special_tokens=special))
    return _save(backend, tmp_path_factory.mktemp("word_piece"), "[CLS]", "[SEP]")


@pytest.fixture(scope="session")
def unigram(tmp_path_factory: pytest.TempPathFactory) -> ByteTokenizer:
    """A SentencePiece unigram model with byte fallback that keeps text as it is, in a folder of its own."""
    return load_tokenizer(str(train_unigram(tmp_path_factory.mktemp("unigram"), "identity")), trust_remote_code=False)


def train_unigram(folder: Path, normalization: str) -> Path:
    """Trains a SentencePiece model on the corpus; the folder then holds tokenizer.model and nothing else."""
    import sentencepiece

    keeps_text = normalization == "identity"
    with (folder / "tokenizer.model").open("wb") as model:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_writer=model,
            model_type="unigram",
            vocab_size=600,
            hard_vocab_limit=False,
            byte_fallback=True,
            normalization_rule_name=normalization,
            remove_extra_whitespaces=not keeps_text,
            minloglevel=2,
        )
    return folder


@pytest.fixture(scope="session")
def all_tokenizers(
    tokenizers: dict[str, ByteTokenizer], unigram: ByteTokenizer, lowercase: ByteTokenizer, word_piece: ByteTokenizer
) -> dict[str, ByteTokenizer]:
    """`tokenizers` and those that change text or come from SentencePiece itself."""
    return {**tokenizers, "unigram": unigram, "lowercase": lowercase, "word_piece": word_piece}


@pytest.fixture(scope="session")
def tokenizers(
    byte_level: ByteTokenizer, small_byte_level: ByteTokenizer, sentencepiece: ByteTokenizer
) -> dict[str, ByteTokenizer]:
    """All kinds, by name."""
    return {"byte_level": byte_level, "small_byte_level": small_byte_level, "sentencepiece": sentencepiece}


def in_new_process(function: Callable[..., Result], *arguments: object) -> Result:
    """Calls a module's function in a process of its own.

    vLLM belongs in one: it patches classes of transformers, and trips over numba's compiler when that was loaded first.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as executor:
        return executor.submit(function, *arguments).result()


@pytest.fixture(scope="session")
def demo() -> Path:
    """The demo's text and models, trained for seconds only; kept for the next run of the tests."""
    folder = cache_directory() / "test-demo"
    command = [sys.executable, "-m", "jobs.demo.make_demo", "--output", str(folder), "--scale", "0.02"]
    subprocess.run(command, cwd=ROOT, check=True)
    return folder
