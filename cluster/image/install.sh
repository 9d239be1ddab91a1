#!/usr/bin/env bash
# Installs pta-ray and all that it needs, in the versions of constraints.txt, into a new virtual environment. Run from the
# root of the project; the image's build does the same.
#
#     cluster/image/install.sh cpu|cuda DIRECTORY
set -euo pipefail

variant=${1:?cpu or cuda} directory=${2:?the new virtual environment}

python3 -m venv "$directory"
"$directory/bin/pip" install --no-cache-dir --progress-bar off --constraint cluster/image/constraints.txt ".[$variant,lora]"
if [ "$variant" = cpu ]; then
    # They come with vLLM, need not match the CPU build of torch, and then break `import transformers`. No text model needs them.
    "$directory/bin/pip" uninstall --yes torchvision torchaudio torchcodec
fi
"$directory/bin/python" -c 'import deepspeed, ray, safetensors, transformers, vllm'
"$directory/bin/pta-ray" --help >/dev/null
