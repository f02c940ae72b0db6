"""Computes what experiments/real.toml computes, with transformers and NumPy instead of emoflow's code.

Writes the values that `tests/it/real.rs` compares emoflow with. transformers reads the GGUF files itself; texts come one at a
time, without padding, in fp32 with eager attention; everything after the pooling is in float64. After `make real` has fetched
the models, from the project's root:

    python tests/real/reference.py smollm2 gemma3

It needs torch, transformers, gguf and numpy, and some ten minutes. The values go to tests/real/<model>-<emotions>.json: of the
experiment's thirty emotions, and of nine of them, which is what a quick run takes. With `--readings` it writes nothing but
tests/real/readings-<model>.json, the readings of the experiment's texts token by token, in two minutes.
"""

import argparse
import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(ROOT / "tests/e2e"))

from reference import Reference, plain, principal_components  # noqa: E402

# Leading entries of each vector that are compared one by one; the others are in norms, cosines and scores.
START = 8
# Tokens that are written greedily after each prompt.
GREEDY = 40
PROMPTS = ["The old woman opened the letter and", "Rain fell on the town, and the children"]


def preset(name):
    """The entries of a list that ships with emoflow: paragraphs, or where there are no empty lines, lines."""
    lines = (ROOT / f"src/params/presets/{name}.txt").read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.startswith("#")).strip()
    entries = text.split("\n\n") if "\n\n" in text else text.split("\n")
    return [" ".join(entry.split()) for entry in entries if entry.strip()]


def of_layer(layer, stories, neutral, settings):
    """The vectors at one layer, and what is compared of them at all layers."""
    # [emotion, passage, d_model]; stored activations are float32.
    pooled = np.array([[row[layer] for row in rows] for rows in stories], dtype=np.float64)
    means = pooled.mean(1)
    raw = means - means.mean(0)
    ratios, directions = principal_components(np.array([row[layer] for row in neutral], dtype=np.float64))
    removed = directions[: settings["denoise"]]
    vectors = raw - raw @ removed.T @ removed
    norms = np.linalg.norm(vectors, axis=1)
    found = {
        "layer": layer,
        "resid_norm": np.linalg.norm(pooled, axis=2).mean(),
        "neutral_ratio": ratios[: settings["denoise"]],
        "raw_norm": np.linalg.norm(raw, axis=1),
        "norm": norms,
    }
    return vectors, norms, found


def closer(vectors, norms, settings):
    """What is compared at a few layers: vectors, components and cosines."""
    ratios, axes = principal_components(vectors)
    scores = (vectors - vectors.mean(0)) @ axes.T
    cosine = (vectors @ vectors.T) / np.outer(norms, norms)
    upper = np.triu_indices(len(vectors), 1)
    return {
        "start": vectors[:, :START],
        "pca_ratio": ratios[: settings["components"]],
        "pca_score": scores[:, : settings["components"]],
        "cosine": cosine[upper],
    }


def lens(reference, emotions, vectors, top):
    """The tokens that each vector promotes and suppresses most, and the rank of its own word's."""
    unembed = reference.model.get_output_embeddings().weight.detach().double().numpy()
    values = vectors @ unembed.T
    promoted = np.argsort(-values, axis=1, kind="stable")[:, :top]
    suppressed = np.argsort(values, axis=1, kind="stable")[:, :top]
    own = reference.own_tokens(emotions)
    return {
        "promoted": promoted,
        "promoted_value": np.take_along_axis(values, promoted, 1),
        "suppressed": suppressed,
        "suppressed_value": np.take_along_axis(values, suppressed, 1),
        "own_token": own,
        "own_rank": [1 + int((row > row[token]).sum()) for row, token in zip(values, own)],
    }


def steer(reference, emotions, vectors, layer, prompt, strength):
    """The baselines of the words and the deltas [steered, measured]."""
    baseline = [reference.log_probability(prompt, word) for word in emotions]
    deltas = []
    for vector in vectors:
        reference.steering = {layer: torch.tensor(strength * vector, dtype=torch.float32)}
        deltas.append([reference.log_probability(prompt, word) - before for word, before in zip(emotions, baseline)])
    reference.steering = {}
    return {"prompt": prompt, "strength": strength, "baseline": baseline, "delta": deltas}


def greedy(reference):
    """What the model writes after each prompt, and what its chat template makes of one."""
    tokenizer = reference.tokenizer
    written = []
    for prompt in PROMPTS:
        ids = tokenizer(prompt)["input_ids"]
        with torch.no_grad():
            made = reference.model.generate(
                torch.tensor([ids]), do_sample=False, max_new_tokens=GREEDY, pad_token_id=0, top_k=None, top_p=None
            )
        written.append({"prompt": prompt, "ids": ids, "written": made[0, len(ids) :].tolist()})
    chat = None
    if tokenizer.chat_template:
        chat = tokenizer.apply_chat_template([{"role": "user", "content": PROMPTS[0]}], add_generation_prompt=True)
        chat = chat["input_ids"] if not isinstance(chat, list) else chat
    return {"greedy": written, "chat": chat}


def tokens(reference, text, layer):
    """The residuals of a text's own tokens."""
    encoding = reference.tokenizer(text, return_special_tokens_mask=True)
    reference.forward(encoding["input_ids"])
    own = [at for at, special in enumerate(encoding["special_tokens_mask"]) if not special]
    return reference.resid_post[layer][own].double().numpy()


def readings(name, reference, layer, experiment, passages, neutral):
    """[text][token][emotion]: products with the emotions' vectors of unit norm, of both sets of emotions."""

    def pool(text):
        return reference.pooled(text, [layer], experiment["activations"]["from_token"])[0][layer].astype(np.float64)

    texts = experiment["analysis"]["tokens"]["readings"]["texts"]
    every = preset(experiment["emotions"]["preset"])
    read = {word: np.mean([pool(text.replace("{emotion}", word)) for text in passages], axis=0) for word in every}
    _, axes = principal_components(np.array([pool(text) for text in neutral]))
    removed = axes[: experiment["vectors"]["denoise"]["components"]]
    residuals = [tokens(reference, text, layer) for text in texts]
    values = {"model": name, "layer": layer, "texts": texts}
    for emotions in [experiment["emotions"]["preset"], "core-9"]:
        means = np.array([read[word] for word in preset(emotions)])
        vectors = means - means.mean(0)
        vectors -= vectors @ removed.T @ removed
        vectors /= np.linalg.norm(vectors, axis=1)[:, None]
        values[emotions] = [resid @ vectors.T for resid in residuals]
    return values


def rounded(value):
    """JSON of NumPy values with six significant digits: a hundredth of what the test allows."""
    value = plain(value)
    if isinstance(value, dict):
        return {key: rounded(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [rounded(entry) for entry in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="names of the models in experiments/real.toml")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--readings", action="store_true", help="nothing but the readings of single tokens")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    experiment = tomllib.loads((ROOT / "experiments/real.toml").read_text(encoding="utf-8"))
    passages = preset(experiment["stories"]["passages"]["template"]["set"])
    neutral = preset(experiment["neutral"]["template"]["set"])
    steering = experiment["analysis"]["causes"]["steering"]
    settings = {
        "from_token": experiment["activations"]["from_token"],
        "denoise": experiment["vectors"]["denoise"]["components"],
        "components": experiment["analysis"]["space"]["pca"]["components"],
        "top": experiment["analysis"]["words"]["logit_lens"]["top"],
    }
    every = preset(experiment["emotions"]["preset"])
    for name in args.models:
        path = ROOT / experiment["models"][name]["path"]
        reference = Reference(path.parent, gguf_file=path.name)
        layers = list(range(len(reference.model.model.layers)))
        # The report begins at the layer nearest to two thirds of the depth, of two the later.
        shown = min(layers, key=lambda layer: (abs(layer + 0.5 - 2 / 3 * len(layers)), -layer))
        out = HERE / f"readings-{name}.json"
        values = rounded(readings(name, reference, shown, experiment, passages, neutral))
        out.write_text(json.dumps(values, separators=(",", ":")) + "\n", encoding="utf-8")
        print(f"wrote {out} ({out.stat().st_size} bytes)", flush=True)
        if args.readings:
            continue
        texts = greedy(reference)

        def pool(text):
            return reference.pooled(text, layers, settings["from_token"])[0]

        read = {word: [pool(passage.replace("{emotion}", word)) for passage in passages] for word in every}
        plain_rows = [pool(text) for text in neutral]
        print(f"{name}: {len(every) * len(passages) + len(neutral)} texts are read", flush=True)
        near = sorted({0, len(layers) // 2, shown, len(layers) - 1})
        for emotions in [experiment["emotions"]["preset"], "core-9"]:
            words = preset(emotions)
            rows = [read[word] for word in words]
            values = {"model": name, "file": path.name, **settings, "preset": emotions, "emotions": words}
            values |= {"shown": shown, "layers": [], "near": [], **texts}
            for layer in layers:
                vectors, norms, found = of_layer(layer, rows, plain_rows, settings)
                values["layers"].append(found)
                if layer in near:
                    values["near"].append({"layer": layer, **closer(vectors, norms, settings)})
                if layer == shown:
                    values["lens"] = lens(reference, words, vectors, settings["top"])
                    prompt, strength = steering["prompts"][0], steering["strength"][0]
                    values["steering"] = steer(reference, words, vectors, layer, prompt, strength)
            out = HERE / f"{name}-{emotions}.json"
            out.write_text(json.dumps(rounded(values), separators=(",", ":")) + "\n", encoding="utf-8")
            print(f"wrote {out} ({out.stat().st_size} bytes)", flush=True)


if __name__ == "__main__":
    main()
