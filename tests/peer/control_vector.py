"""llama.cpp under the control vectors that `emoflow export` writes: its log-probabilities and its greedy text are ours.

    pip install llama-cpp-python==0.3.36 gguf numpy
    python tests/peer/to_gguf.py models/demo demo.gguf          # or --f32 of another GGUF file, below
    emoflow run EXP.toml && emoflow export EXP.toml --format gguf --layers LAYER --out exported
    python tests/peer/control_vector.py demo.gguf exported results/EXP
    python tests/peer/control_vector.py --f32 MODEL.gguf MODEL-f32.gguf     # the same model in float32

EXP has one model (this one, in f32) and one source, an analysis `causes` of `steering` with unit `vector`, positions `all`, one layer
and `write = 20`. llama.cpp computes in float32 only where the weights are: of a quantised file make one in float32 first.
The files are read as llama.cpp's common_control_vector_load and repeng's ControlVector.import_gguf read them.
"""

import csv
import ctypes
import pathlib
import sys

import gguf
import numpy as np


def to_f32(old, new):
    """The same model with every tensor in float32."""
    reader = gguf.GGUFReader(old)
    writer = gguf.GGUFWriter(new, reader.get_field("general.architecture").contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, values.reshape(list(reversed(tensor.shape.tolist()))))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if sys.argv[1] == "--f32":
    to_f32(*sys.argv[2:4])
    sys.exit()

import llama_cpp

model_file, exported, results = sys.argv[1], *map(pathlib.Path, sys.argv[2:4])
# In float32 throughout; one thread, as several wait for one another where others compute.
exact = {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
model = llama_cpp.Llama(model_file, n_ctx=512, logits_all=True, verbose=False, n_threads=1, **exact)
width = model.n_embd()
n_layers = llama_cpp.llama_model_n_layer(model.model)


def load(path):
    """As common_control_vector_load: direction.N, N from 1, at place N - 1; of one width."""
    reader = gguf.GGUFReader(path)
    assert reader.get_field("general.architecture").contents() == "controlvector"
    data = np.zeros((n_layers, width), np.float32)
    for tensor in reader.tensors:
        name, layer = tensor.name.split(".")
        assert name == "direction" and int(layer) > 0 and list(tensor.shape) == [width], tensor.name
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32
        data[int(layer) - 1] = tensor.data
    assert len(reader.tensors) == reader.get_field("controlvector.layer_count").contents()
    return reader.get_field("emoflow.emotion").contents(), data


def steer(data):
    context = model.ctx
    if data is None:
        code = llama_cpp.llama_set_adapter_cvec(context, None, 0, width, 0, 0)
    else:
        flat = np.ascontiguousarray(data.reshape(-1))
        pointer = flat.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        code = llama_cpp.llama_set_adapter_cvec(context, pointer, flat.size, width, 1, n_layers)
    assert code == 0


def logits(ids):
    model.reset()
    model._ctx.kv_cache_clear()
    model.eval(ids)
    rows = np.array(model.scores[: len(ids)], np.float64)
    rows -= rows.max(axis=-1, keepdims=True)
    return rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))


def tokens(text):
    return model.tokenize(text.encode(), add_bos=True, special=False)


def logprob(prompt, word):
    start, ids = tokens(prompt), tokens(f"{prompt} {word}")
    assert ids[: len(start)] == start
    found = logits(ids)
    return sum(found[at - 1, ids[at]] for at in range(len(start), len(ids)))


def greedy(prompt, count):
    ids = tokens(prompt)
    first = len(ids)
    for _ in range(count):
        best = int(logits(ids)[-1].argmax())
        if best == model.token_eos():
            break
        ids.append(best)
    return model.detokenize(ids[first:]).decode(errors="replace")


vectors = dict(load(path) for path in sorted(exported.glob("*/*/*.gguf")))
worst, checked = 0.0, 0
for row in csv.DictReader(open(results / "tables" / "causes.csv")):
    if row["steered"] not in vectors:
        continue  # a direction of a null
    assert row["unit"] == "vector"
    steer(vectors[row["steered"]] * float(row["strength"]))
    worst = max(worst, abs(logprob(row["prompt"], row["measured"]) - float(row["steered_logprob"])))
    checked += 1
print(f"{checked} log-probabilities under {len(vectors)} control vectors: at most {worst:.1e} nats from emoflow's")
assert checked > 0 and worst < 2e-3

same, written = 0, 0
for row in csv.DictReader(open(results / "tables" / "causes.steering_text.csv")):
    if row["steered"] not in vectors:
        continue
    steer(vectors[row["steered"]] * float(row["strength"]))
    theirs = greedy(row["prompt"], 20)
    written += 1
    if theirs == row["text"]:
        same += 1
    else:
        print(f"{row['steered']}: {theirs!r} is not {row['text']!r}")
print(f"{same} of {written} greedy texts are the same")
assert written > 0 and same == written
