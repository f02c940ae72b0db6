"""Recomputes what emoflow computes from a checkpoint, with transformers and NumPy instead of its code.

Writes the values that `tests/it/science.rs` compares emoflow with. One text at a time, without padding, in fp32
with eager attention; everything after the pooling in float64; principal components by SVD. Run it again, from the
project's root, whenever a checkpoint changes:

    python tests/e2e/reference.py models/demo --layers 1,2,3

It needs torch, transformers and numpy. The values go to tests/e2e/reference/<name of the checkpoint>.json.
"""

import argparse
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

HERE = Path(__file__).parent


class Reference:
    """A checkpoint in transformers, with the residual after each block at hand."""

    def __init__(self, folder, **more):
        self.tokenizer = AutoTokenizer.from_pretrained(folder, **more)
        self.model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager", **more
        )
        self.model.eval()
        self.resid_post = {}
        self.steering = {}  # layer -> what is added at every position
        for layer, block in enumerate(self.model.model.layers):
            block.register_forward_hook(lambda _module, _args, output, layer=layer: self.after(layer, output))

    def after(self, layer, output):
        """Adds the steering vector to a block's output and keeps the sum."""
        resid = output[0] if isinstance(output, tuple) else output
        if layer in self.steering:
            resid = resid + self.steering[layer]
        self.resid_post[layer] = resid[0]
        return (resid, *output[1:]) if isinstance(output, tuple) else resid

    def forward(self, ids):
        """Logits [pos, d_vocab] of token ids."""
        with torch.no_grad():
            return self.model(torch.tensor([ids])).logits[0]

    def pooled(self, text, layers, from_token):
        """For each layer the mean residual over the text's own tokens from `from_token` on, and their number."""
        encoding = self.tokenizer(text, return_special_tokens_mask=True)
        own = [at for at, special in enumerate(encoding["special_tokens_mask"]) if not special][from_token:]
        assert own, f"too short: {text}"
        self.forward(encoding["input_ids"])
        return {layer: self.resid_post[layer][own].mean(0).numpy() for layer in layers}, len(own)

    def log_probability(self, prompt, word):
        """The summed log-probability of " " + word after the prompt."""
        prompt_ids = self.tokenizer(prompt)["input_ids"]
        ids = self.tokenizer(f"{prompt} {word}")["input_ids"]
        assert ids[: len(prompt_ids)] == prompt_ids, "the word changes the prompt's tokens"
        logs = torch.log_softmax(self.forward(ids).double(), -1)
        return sum(logs[at - 1, ids[at]].item() for at in range(len(prompt_ids), len(ids)))

    def own_tokens(self, words):
        """The first token of each word as it is split after another word."""
        before = self.tokenizer("feels")["input_ids"]
        return [self.tokenizer(f"feels {word}")["input_ids"][len(before)] for word in words]


def principal_components(rows):
    """Ratios of explained variance and directions, the entry of largest magnitude of each positive."""
    centred = rows - rows.mean(0)
    _, singular, directions = np.linalg.svd(centred, full_matrices=False)
    largest = np.abs(directions).argmax(1)
    directions = directions * np.sign(directions[np.arange(len(directions)), largest])[:, None]
    kept = min(len(rows) - 1, rows.shape[1])
    return (singular**2 / (singular**2).sum())[:kept], directions[:kept]


def analyse(reference, texts, layer, settings, stories, neutral):
    """All values of one layer."""
    emotions = texts["emotions"]
    # Stored activations are float32.
    pooled = {emotion: np.array([row[layer] for row in stories[emotion]], dtype=np.float64) for emotion in emotions}
    means = np.array([pooled[emotion].mean(0) for emotion in emotions])
    raw = means - means.mean(0)
    neutral_ratios, directions = principal_components(np.array([row[layer] for row in neutral], dtype=np.float64))
    removed = directions[: settings["denoise_components"]]
    vectors = raw - raw @ removed.T @ removed
    ratios, axes = principal_components(vectors)
    scores = (vectors - vectors.mean(0)) @ axes.T
    norms = np.linalg.norm(vectors, axis=1)
    unembed = reference.model.get_output_embeddings().weight.detach().double().numpy()
    lens = vectors @ unembed.T
    promoted = np.argsort(-lens, axis=1, kind="stable")[:, : settings["lens_top"]]
    suppressed = np.argsort(lens, axis=1, kind="stable")[:, : settings["lens_top"]]
    own = reference.own_tokens(emotions)
    everything = np.concatenate([pooled[emotion] for emotion in emotions])
    return {
        "layer": layer,
        "activation_norm": np.linalg.norm(everything, axis=1),
        "activation_start": everything[:, :8],
        "resid_norm": np.linalg.norm(everything, axis=1).mean(),
        "neutral_ratio": neutral_ratios[: settings["denoise_components"]],
        "raw_norm": np.linalg.norm(raw, axis=1),
        "vector": vectors,
        "pca_ratio": ratios[: settings["pca_components"]],
        "pca_score": scores[:, : settings["pca_components"]],
        "norm_check": abs(np.corrcoef(scores[:, 0], norms)[0, 1]),
        "cosine": (vectors @ vectors.T) / np.outer(norms, norms),
        "promoted": promoted,
        "promoted_value": np.take_along_axis(lens, promoted, 1),
        "suppressed": suppressed,
        "own_token": own,
        "own_rank": [1 + int((row > row[token]).sum()) for row, token in zip(lens, own)],
        "suppressed_value": np.take_along_axis(lens, suppressed, 1),
        "steering": steer(reference, texts, layer, settings, vectors),
    }


def steer(reference, texts, layer, settings, vectors):
    """For each prompt the baselines of the words and the deltas [steered, measured]."""
    found = []
    for prompt in texts["prompts"]:
        reference.steering = {}
        baseline = [reference.log_probability(prompt, word) for word in texts["emotions"]]
        deltas = []
        for vector in vectors:
            reference.steering = {layer: torch.tensor(settings["strength"] * vector, dtype=torch.float32)}
            steered = [reference.log_probability(prompt, word) for word in texts["emotions"]]
            deltas.append([after - before for after, before in zip(steered, baseline)])
        reference.steering = {}
        found.append({"prompt": prompt, "baseline": baseline, "delta": deltas})
    return found


def digest(folder):
    """SHA-256 of the files that decide the values, so that the test can tell that they are of another checkpoint."""
    found = hashlib.sha256()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        found.update((folder / name).read_bytes())
    return found.hexdigest()


def plain(value):
    """JSON of NumPy values, with eight significant digits."""
    if isinstance(value, dict):
        return {key: plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [plain(entry) for entry in value]
    if isinstance(value, (float, np.floating)):
        return float(f"{value:.8g}")
    return int(value) if isinstance(value, np.integer) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="a folder in Hugging Face format")
    parser.add_argument("--layers", required=True, help="blocks, from 0, with commas between")
    parser.add_argument("--from-token", type=int, default=3)
    parser.add_argument("--strength", type=float, default=1.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    settings = {
        "layers": [int(layer) for layer in args.layers.split(",")],
        "from_token": args.from_token,
        "denoise_components": 3,
        "pca_components": 3,
        "lens_top": 5,
        "strength": args.strength,
    }
    texts = json.loads((HERE / "texts.json").read_text(encoding="utf-8"))
    reference = Reference(args.checkpoint)
    layers = settings["layers"]

    def pool(text):
        return reference.pooled(text, layers, settings["from_token"])

    stories = {
        emotion: [pool(passage.replace("{emotion}", emotion)) for passage in texts["passages"]]
        for emotion in texts["emotions"]
    }
    neutral = [pool(text)[0] for text in texts["neutral"]]
    values = {
        "checkpoint": args.checkpoint.as_posix(),
        "digest": digest(args.checkpoint),
        **settings,
        "n_tokens": [n for emotion in texts["emotions"] for _, n in stories[emotion]],
    }
    rows = {emotion: [row for row, _ in stories[emotion]] for emotion in texts["emotions"]}
    values["of_layer"] = [analyse(reference, texts, layer, settings, rows, neutral) for layer in layers]
    path = HERE / "reference" / f"{args.checkpoint.resolve().name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(plain(values), separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"wrote {path} ({path.stat().st_size} bytes)")


if __name__ == "__main__":
    main()
