"""What SmolLM2-135M-Instruct holds of the dialogues of tests/e2e/dialogues.py, with transformers and NumPy instead of emoflow's code.

Writes dialogues.json, which `make real` compares emoflow with (`tests/it/real.rs`). From the project's root, with the model in models/real:

    python tests/real/dialogues.py

It needs torch, transformers, safetensors, gguf and numpy.
"""

import json
import sys
from pathlib import Path

import torch

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))
from dialogues import Dialogues, found  # noqa: E402
from reference import plain  # noqa: E402

FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
# What its chat template says where nobody else does.
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


class SmolLM(Dialogues):
    layer = 20

    def ids(self, messages, answer=False):
        told = [] if messages[0]["role"] == "system" else [{"role": "system", "content": SYSTEM}]
        turns = [f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in told + messages]
        text = "".join(turns) + ("<|im_start|>assistant\n" if answer else "")
        return self.tokenizer(text, add_special_tokens=False)["input_ids"]

    def own(self, pieces, role):
        own, speaks, heading = [], "", False
        for at, piece in enumerate(pieces):
            if piece == "<|im_start|>":
                speaks, heading = "", True
            elif piece == "<|im_end|>":
                speaks = ""
            elif heading and piece == "\u010a":  # a line break
                heading = False
            elif heading:
                speaks += piece
            elif speaks == role:
                own.append(at)
        return own


def main():
    torch.set_num_threads(2)
    values = {"file": FILE, **found(SmolLM(ROOT / "models/real", gguf_file=FILE))}
    # Among 49,152 tokens some logits are as good as equal.
    del values["own_rank"], values["own_rank_outside"]
    path = HERE / "dialogues.json"
    path.write_text(json.dumps(plain(values), indent=1) + "\n", encoding="utf-8")
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
