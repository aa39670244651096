#!/usr/bin/env bash
# LeRobot: a pi0-FAST that executes a part of each chunk reads its own ids wrong, from the first action on.
#
# Training writes a chunk of `chunk_size` actions as its frequencies (FAST). predict_action_chunk reads them as those of
# a chunk of `n_action_steps` actions: coefficients behind the first n_action_steps x dimensions are cut off, and the
# others are turned back by a transform of another length, so that the whole motion is pressed into the executed steps
# and scaled by sqrt(chunk_size / n_action_steps). The config allows n_action_steps < chunk_size, nothing is said, and
# the actions are smooth and of plausible size. Both are 50 by default, where nothing shows.
#
# Who is hit: whoever sets --policy.n_action_steps below chunk_size, as one does to plan anew more often.
# Way out: leave n_action_steps at chunk_size and execute fewer of what predict_action_chunk returns.
#
# Seen with LeRobot 0.6.1, transformers 5.5.4, PyTorch 2.11.0, Python 3.12.1:
#
#   LeRobot 0.6.1: a chunk of 10 actions that the network writes without an error
#   expected: the first joint's first actions, whatever number of them is executed
#   the chunk                               0.00  0.11  0.22  0.33  0.44  0.56  0.67  0.78  0.89  1.00
#   n_action_steps 10, largest error 0.02:  0.02  0.10  0.22  0.35  0.46  0.56  0.66  0.79  0.91  0.99
#   n_action_steps  5, largest error 1.39:  0.08  0.40  0.72  1.03  1.35
#   n_action_steps  2, largest error 2.19:  0.42  1.84
#   as described
#
# Ends with 0 if LeRobot still behaves so, with 1 if not. Takes a Python of 3.12 or later: PYTHON=python3.12 bash ...
# It needs 6 GB of disk for a while, for LeRobot brings PyTorch for CUDA along; no weights and no hub.
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
"${PYTHON:-python3}" -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet --disable-pip-version-check "lerobot[pi]==0.6.1" transformers==5.5.4 2>/dev/null
cd "$place"
venv/bin/python -W ignore - <<'PY'
import sys
from importlib.metadata import version
from types import SimpleNamespace

import numpy as np
import torch
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.pi0_fast.configuration_pi0_fast import PI0FastConfig
from lerobot.policies.pi0_fast.modeling_pi0_fast import PI0FastPolicy
from lerobot.processor.tokenizer_processor import ActionTokenizerProcessorStep
from scipy.fft import dct
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

CHUNK, SCALE, LEAST = 10, 10, -100

# A tokenizer of words with what pi0-FAST asks of PaliGemma's, and ids at its end for actions.
tokens = ["<bos>", "Action", ":", " ", "|", *(f"<{i}>" for i in range(400))]
backend = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<bos>"))
backend.pre_tokenizer = pre_tokenizers.Split(Regex("Action|."), "isolated")
PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<bos>").save_pretrained("words")


class Fast:
    """FAST as published, with an id for each integer: frequencies over time, rounded, the slow ones first."""

    scale, min_token = SCALE, LEAST
    bpe_tokenizer = SimpleNamespace(decode=lambda ids: "".join(chr(int(i)) for i in ids))

    def __call__(self, chunks):
        whole = np.around(dct(np.asarray(chunks), axis=1, norm="ortho") * SCALE).astype(int) - LEAST
        return [row.ravel().tolist() for row in whole]


step = ActionTokenizerProcessorStep(action_tokenizer_input_object=Fast(), paligemma_tokenizer_name="words")
time = np.linspace(0, 1, CHUNK)
chunk = torch.tensor(np.stack([time, 1 - 2 * time], 1)[None], dtype=torch.float32)  # two joints, steadily
ids = step._tokenize_action(chunk)[0][:, 1:]  # what the network is trained to write behind <bos>


def planned(executed):
    """LeRobot's plan where the network writes exactly these ids."""
    policy = object.__new__(PI0FastPolicy)
    torch.nn.Module.__init__(policy)
    policy.config = PI0FastConfig(
        chunk_size=CHUNK, n_action_steps=executed, device="cpu",
        output_features={"action": PolicyFeature(FeatureType.ACTION, (2,))},
    )
    policy.action_tokenizer, policy._paligemma_tokenizer = Fast(), step._paligemma_tokenizer
    policy.model = SimpleNamespace(sample_actions_fast_kv_cache=lambda *_, **__: ids)
    policy._preprocess_images = lambda batch: ([], [])
    seen = dict.fromkeys(("observation.language.tokens", "observation.language.attention_mask"))
    return policy.predict_action_chunk(seen)[0]


print(f"LeRobot {version('lerobot')}: a chunk of {CHUNK} actions that the network writes without an error")
print("expected: the first joint's first actions, whatever number of them is executed")
print("the chunk".ljust(38), *(f"{x:5.2f}" for x in chunk[0, :, 0].tolist()))
apart = {}
for executed in (10, 5, 2):
    found = planned(executed)
    apart[executed] = float((found - chunk[0, :executed]).abs().max())
    print(f"n_action_steps {executed:2}, largest error {apart[executed]:.2f}:", *(f"{x:5.2f}" for x in found[:, 0].tolist()))
described = apart[10] < 0.1 and apart[5] > 0.5 and apart[2] > 0.5
print("as described" if described else "behaves otherwise now")
sys.exit(not described)
PY
