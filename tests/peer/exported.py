"""Reads what `emoflow export` wrote with the packages of other tools, and steers with it in transformers.

    pip install torch==2.11.0 transformers numpy safetensors gguf pyarrow
    emoflow run EXP.toml
    for format in safetensors npz gguf; do emoflow export EXP.toml --format $format --out exported; done
    python tests/peer/exported.py exported results/EXP MODEL_FOLDER

EXP has one model and one source, an analysis `causes` of `steering` (unit `vector`, positions `all`) at one layer, and its
weights are f32. Says how far numbers are apart, and fails where they are further apart than rounding.
"""

import csv
import json
import pathlib
import sys

import gguf
import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

exported, results, folder = map(pathlib.Path, sys.argv[1:4])

# What the results hold, as it is read by pyarrow.
(table_path,) = (results / "vectors").glob("*/*.parquet")
rows = pq.read_table(table_path).to_pylist()
truth = {(row["emotion"], row["layer"]): np.array(row["vector"], np.float32) for row in rows}
norms = {row["layer"]: row["resid_norm"] for row in rows}
layers = sorted(norms)

(path,) = exported.glob("*/*.safetensors")
with safe_open(path, "np") as file:
    said = file.metadata()
    assert json.loads(said["emoflow.layers"]) == layers, said
    assert np.allclose(json.loads(said["emoflow.resid_norm"]), [norms[layer] for layer in layers], rtol=1e-6)
    for emotion in file.keys():
        ours = np.stack([truth[emotion, layer] for layer in layers])
        assert np.array_equal(file.get_tensor(emotion), ours), emotion
        strength = json.loads(said["emoflow.strength_1"])[emotion]
        assert np.allclose(strength, [np.linalg.norm(v) / norms[l] for v, l in zip(ours, layers)], rtol=1e-5)
    print(f"{path.name}: {len(list(file.keys()))} tensors, to the bit")

(path,) = exported.glob("*/*.npz")
with np.load(path) as file:
    assert list(file["emoflow.layers"]) == layers
    assert json.loads(str(file["emoflow"]))["emoflow.layers"] == layers
    emotions = [name for name in file.files if not name.startswith("emoflow")]
    for emotion in emotions:
        assert np.array_equal(file[emotion], np.stack([truth[emotion, layer] for layer in layers])), emotion
    print(f"{path.name}: {len(emotions)} arrays, to the bit")

# As repeng's ControlVector.import_gguf and llama.cpp's common_control_vector_load read it.
count = 0
for path in exported.glob("*/*/*.gguf"):
    reader = gguf.GGUFReader(path)
    text = lambda key: str(bytes(reader.get_field(key).parts[-1]), "utf-8")
    assert text("general.architecture") == "controlvector"
    emotion = text("emoflow.emotion")
    places = []
    for tensor in reader.tensors:
        name, number = tensor.name.split(".")
        assert name == "direction" and int(number) > 0 and tensor.tensor_type.name == "F32", tensor.name
        assert np.array_equal(tensor.data, truth[emotion, int(number)]), (emotion, number)
        places.append(int(number))
    assert places == [layer for layer in layers if layer > 0]
    assert int(reader.get_field("controlvector.layer_count").parts[-1][0]) == len(places)
    count += 1
assert count == len(emotions)
print(f"{count} GGUF files, to the bit")

# A forward hook on the safetensors file: what `causes` measured.
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
(path,) = exported.glob("*/*.safetensors")


def logprob(prompt, word, layer, vector):
    start = tokenizer(prompt)["input_ids"]
    ids = torch.tensor([tokenizer(f"{prompt} {word}")["input_ids"]])
    hook = lambda module, args, output: (
        (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector
    )
    handle = model.model.layers[layer].register_forward_hook(hook)
    with torch.no_grad():
        logits = model(ids).logits[0].log_softmax(-1)
    handle.remove()
    return sum(logits[at - 1, ids[0, at]].item() for at in range(len(start), ids.shape[1]))


worst, checked = 0.0, 0
with safe_open(path, "pt") as file:
    for row in csv.DictReader(open(results / "tables" / "causes.csv")):
        if row["steered"] not in emotions:
            continue  # a random direction
        assert row["unit"] == "vector"
        layer = int(row["layer"])
        vector = file.get_tensor(row["steered"])[layers.index(layer)] * float(row["strength"])
        theirs = logprob(row["prompt"], row["measured"], layer, vector)
        worst = max(worst, abs(theirs - float(row["steered_logprob"])))
        checked += 1
print(f"steering in transformers: {checked} log-probabilities, at most {worst:.1e} nats from emoflow's")
assert checked > 0 and worst < 2e-3
