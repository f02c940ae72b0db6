"""The cosines that `tests/it/behaviour.rs` compares: python tests/e2e/turns.py (pip install torch==2.11.0 transformers numpy)

Situations as the user's turn in the chat template of models/demo with the model's turn opened; hidden_states[layer + 1] of
transformers at the last position, fp32; cosine with vectors of sines.
"""

import pathlib

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = pathlib.Path(__file__).parents[2] / "models/demo"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
texts = ["Somebody is turning the handle of the back door.", "The dog is back."]
for text in texts:
    ids = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=False
    )
    with torch.no_grad():
        states = model(ids, output_hidden_states=True).hidden_states
    for layer in [1, 2]:
        resid = states[layer + 1][0, -1].double().numpy()
        for seed in [1, 2]:
            vector = 0.3 * np.sin(np.arange(len(resid)) * 37 + seed * 101)
            cosine = resid @ vector / np.linalg.norm(resid) / np.linalg.norm(vector)
            print(f"layer {layer}, vector {seed}: {cosine:.9f}  {text}")
# The mean over the text's own tokens, as it stands.
for text in texts:
    own = tokenizer(text, return_special_tokens_mask=True)
    with torch.no_grad():
        states = model(torch.tensor([own["input_ids"]]), output_hidden_states=True).hidden_states
    ours = [at for at, special in enumerate(own["special_tokens_mask"]) if not special]
    for layer in [1, 2]:
        resid = states[layer + 1][0, ours].mean(0).double().numpy()
        for seed in [1, 2]:
            vector = 0.3 * np.sin(np.arange(len(resid)) * 37 + seed * 101)
            cosine = resid @ vector / np.linalg.norm(resid) / np.linalg.norm(vector)
            print(f"mean, layer {layer}, vector {seed}: {cosine:.9f}  {text}")
