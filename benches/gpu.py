"""What a GPU reaches, beside its limits and beside transformers, with pass or fail: the one command is `make bench-gpu`.

    pip install torch==2.11.0 transformers numpy
    python benches/gpu.py [--shapes llama-3.1-8b,llama-3.2-1b,gemma-4-e4b] [--only limits|extraction|generation]

It measures, in one run on one card:
- the limits: a bf16 matrix product of 8192 x 8192 x 8192, and a copy within the device's memory (bytes read and written);
- extraction of each shape at all layers (random weights; texts of 20 to 250 tokens, of 100 to 250 for the projection):
  tokens a second, their share of the matrix rate (two operations for each weight of the blocks and token; attention is not
  counted), and the ratio to the usual loop on transformers (`engine.py`);
- generation with the 1B shape, 256 sequences: tokens a second, and their share of what reading all weights and the keys and
  values so far once a step would allow;
- the paper's corpus, 205,200 stories of about 175 tokens: projected from 10,000.

A rate is that of the difference between a run and an eighth of it, so that loading a model is not in it; the projection adds
loading. `--quick --device cpu` runs all of it on `models/demo` with a few texts: a test of this script, not of a machine.

The program needs neither its build folder nor Rust: EMOFLOW and RANDOM_CHECKPOINT say where the two programs were carried
to, and they load this Python's libtorch, which must be of the version that they were built with (docs/design/startup.md).
"""

import argparse
import json
import os
import random
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from engine import EXPERIMENT, FILE, GENERATE, ROOT, WORDS

CORPUS, CORPUS_MEASURED = 205_200, 10_000
SEQUENCES, NEW_TOKENS = 256, 320
# What is to be reached: share of the matrix rate, and times transformers' usual loop.
TARGETS = {"llama-3.1-8b": (0.55, 3.0), "llama-3.2-1b": (None, 2.0), "gemma-4-e4b": (None, 2.0)}


def timed(torch, device, work, times):
    """Median seconds of `work`, after three that do not count."""
    sync = torch.cuda.synchronize if device != "cpu" else (lambda: None)
    seconds = []
    for _ in range(3 + times):
        sync()
        begun = time.perf_counter()
        work()
        sync()
        seconds.append(time.perf_counter() - begun)
    return statistics.median(seconds[3:])


def limits(torch, device, quick):
    """Operations a second of a bf16 product, and bytes a second of a copy."""
    n, numbers = (512, 1 << 22) if quick else (8192, 1 << 31)
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    rate = 2 * n**3 / timed(torch, device, lambda: a @ b, 10)
    source = torch.ones(numbers, device=device, dtype=torch.bfloat16)
    target = torch.empty_like(source)
    return rate, 4 * numbers / timed(torch, device, lambda: target.copy_(source), 10)


def sizes(model):
    """Numbers in the weights of the blocks, and bytes of all weights that a step of generation reads: a table that is only
    looked up in is none of them, unless it is the unembedding too."""
    config = json.loads((model / "config.json").read_text())
    tied = config.get("tie_word_embeddings", config.get("text_config", {}).get("tie_word_embeddings", True))
    blocks = read = 0
    for path in model.glob("*.safetensors"):
        with open(path, "rb") as file:
            header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        header.pop("__metadata__", None)
        for name, tensor in header.items():
            begin, end = tensor["data_offsets"]
            width = {"F32": 4}.get(tensor["dtype"], 2)
            if ".layers." in name:
                blocks += (end - begin) // width
            if ".layers." in name or "lm_head" in name or (tied and name.endswith("embed_tokens.weight")):
                read += end - begin
    return blocks, read


def texts(tokenizer, count, low, high, path):
    """Writes stories of `low` to `high` tokens or one word more; returns how many tokens each has."""
    each = len(tokenizer(" ".join(WORDS))["input_ids"]) / len(WORDS)
    draw, stories = random.Random(0), []
    for _ in range(count):
        words = draw.choices(WORDS, k=max(1, round(draw.randint(low, high) / each)))
        stories.append(" ".join(words))
    with open(path, "w") as file:
        for at, text in enumerate(stories):
            file.write(json.dumps({"emotion": ("happy", "sad")[at % 2], "text": text}) + "\n")
    return [len(ids) for ids in tokenizer(stories)["input_ids"]]


def rate_of(many, few):
    """Of two pairs of tokens and seconds: tokens a second of what the larger has more. Where that is too little to be
    seen, those of the larger."""
    tokens, seconds = many[0] - few[0], many[1] - few[1]
    return tokens / seconds if seconds > 0 else many[0] / many[1]


class Bench:
    def __init__(self, args, torch):
        self.args, self.torch, self.rows = args, torch, []
        self.folder = Path(tempfile.mkdtemp(dir=args.tmp))
        (self.folder / "emoflow.toml").touch()
        self.environment = dict(os.environ)
        starts = subprocess.run([args.emoflow, "--version"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if args.device != "cpu" or starts.returncode != 0:
            own = self.environment.get("LD_LIBRARY_PATH")
            library = str(Path(torch.__file__).parent / "lib")
            self.environment["LD_LIBRARY_PATH"] = f"{library}:{own}" if own else library

    def row(self, what, value, target="", passed=None):
        self.rows.append((what, value, target, "" if passed is None else "pass" if passed else "FAIL"))
        print(f"{what}: {value}", file=sys.stderr, flush=True)

    def model(self, shape):
        if self.args.quick:
            return ROOT / "models/demo"
        path = self.folder / shape
        if not path.exists():
            command = [self.args.random_checkpoint, shape, path, "--dtype", self.args.dtype]
            subprocess.run(command, check=True, env=self.environment, stdout=subprocess.DEVNULL)
        return path

    def shown(self, shape):
        return f"models/demo for {shape}" if self.args.quick else shape

    def seconds(self, model, node, stories):
        """What a run of `node` in an empty cache took, loading included."""
        shutil.rmtree(self.folder / "cache", ignore_errors=True)
        text = EXPERIMENT.format(layers='"all"', shard=256, model=model, dtype=self.args.dtype, stories=stories)
        (self.folder / "exp.toml").write_text(text)
        command = [self.args.emoflow, "run", self.folder / "exp.toml", "--quiet", "--device", self.args.device, "--only", node]
        subprocess.run(command, check=True, env=self.environment, stdout=subprocess.DEVNULL)
        run = json.loads((self.folder / "results/exp/run.json").read_text())
        return next(n["seconds"] for n in run["nodes"] if n["name"].startswith(node.split("*")[0]))

    def usual(self, model, loop, stories, more=()):
        """Tokens a second of a loop of `engine.py`; `None` where transformers cannot."""
        command = [sys.executable, Path(__file__).with_name("engine.py"), "--loop", loop, "--model", model, "--dtype"]
        command += [self.args.dtype, "--device", self.args.device, "--stories", stories, *more]
        done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode != 0:
            print(done.stderr, file=sys.stderr)
            return None
        return json.loads(done.stdout.splitlines()[-1])["rate"]

    def measured(self, model, tokenizer, count, low, high):
        """Tokens a second without loading, and seconds of the whole."""
        many, few = self.folder / "many.jsonl", self.folder / "few.jsonl"
        tokens = sum(texts(tokenizer, count, low, high, many)), sum(texts(tokenizer, count // 8, low, high, few))
        # The short one first: it brings the model into the page cache.
        took = [self.seconds(model, "activations/*", FILE.format(path)) for path in (few, many)]
        return rate_of((tokens[0], took[1]), (tokens[1], took[0])), took[1]

    def extraction(self, shape, rate):
        from transformers import AutoTokenizer

        model, args = self.model(shape), self.args
        tokenizer = AutoTokenizer.from_pretrained(model)
        reached, _ = self.measured(model, tokenizer, args.texts, 20, 250)
        beside = self.folder / "beside.jsonl"
        texts(tokenizer, min(args.texts, 512), 20, 250, beside)
        usual = self.usual(model, "usual", beside)
        share = reached * 2 * sizes(model)[0] / rate
        wanted_share, wanted_ratio = TARGETS[shape]
        self.row(f"extraction, {self.shown(shape)}, all layers", f"{reached:.0f} tokens/s")
        target = f"{wanted_share:.0%}" if wanted_share else ""
        self.row("share of the matrix rate", f"{share:.1%}", target, share >= wanted_share if wanted_share else None)
        if usual is None:
            self.row("times the usual loop", "transformers cannot", f"{wanted_ratio:g}")
        else:
            ratio = reached / usual
            self.row("times the usual loop", f"{ratio:.2f} ({usual:.0f} tokens/s)", f"{wanted_ratio:g}", ratio >= wanted_ratio)
        if shape == "llama-3.2-1b":
            count = 64 if args.quick else CORPUS_MEASURED
            reached, took = self.measured(model, tokenizer, count, 100, 250)
            tokens = sum(texts(tokenizer, count, 100, 250, beside))
            loading = took - tokens / reached
            minutes = (loading + tokens / count * CORPUS / reached) / 60
            shown = f"{minutes:.1f} min from {count} in {took:.1f} s ({count / took:.0f} stories/s with loading)"
            self.row("205,200 stories", shown, "6 min", minutes < 6)

    def generation(self, bandwidth):
        model, args = self.model("llama-3.2-1b"), self.args
        sequences, long = (8, 48) if args.quick else (SEQUENCES, NEW_TOKENS)
        topics = json.dumps([f"topic {at}" for at in range(sequences // 2)])

        def took(new):
            write = GENERATE.format(topics=topics, top_p=1.0)
            return self.seconds(model, "stories/*", write.replace("max_new_tokens = 64", f"max_new_tokens = {new}"))

        short = long // 8
        few = sequences * short, took(short)
        reached = rate_of((sequences * long, took(long)), few)
        config = json.loads((model / "config.json").read_text())
        head = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
        kv = 2 * config["num_key_value_heads"] * head * config["num_hidden_layers"] * {"f32": 4, "bf16": 2}[args.dtype]
        # A prompt has about 40 tokens; between `short` and `long` a sequence has so many on average.
        step = sizes(model)[1] + sequences * (40 + (short + long) / 2) * kv
        limit = sequences * bandwidth / step
        options = ["--sequences", sequences]
        (self.folder / "none").touch()
        usual = self.usual(model, "generate", self.folder / "none", options)
        what = f"generation, {self.shown('llama-3.2-1b')}, {sequences} sequences"
        self.row(what, f"{reached:.0f} tokens/s", "30000", reached >= 30_000)
        self.row("share of the bandwidth limit", f"{reached / limit:.1%} of {limit:.0f}", "35%", reached >= 0.35 * limit)
        self.row("transformers' `generate`", "cannot" if usual is None else f"{usual:.0f} tokens/s")

    def table(self):
        lines = ["| | measured | to reach | |", "|---|---|---|---|"]
        return "\n".join(lines + [f"| {' | '.join(row)} |" for row in self.rows])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bf16", choices=["bf16", "f32"])
    parser.add_argument("--shapes", default=",".join(TARGETS))
    parser.add_argument("--texts", type=int, default=4096, help="for each shape")
    parser.add_argument("--only", choices=["limits", "extraction", "generation"])
    parser.add_argument("--quick", action="store_true", help="models/demo and a few texts, to test this script")
    parser.add_argument("--tmp", help="where checkpoints are written: up to 16 GB at a time")
    parser.add_argument("--emoflow", default=os.environ.get("EMOFLOW", ROOT / "target/release/emoflow"))
    default = os.environ.get("RANDOM_CHECKPOINT", ROOT / "target/release/examples/random_checkpoint")
    parser.add_argument("--random-checkpoint", default=default)
    args = parser.parse_args()
    if args.quick:
        args.texts, args.dtype = 64, "f32"

    import torch

    if args.device != "cpu" and not torch.cuda.is_available():
        sys.exit("this Python's torch sees no CUDA device; `--quick --device cpu` tests the script alone")
    bench = Bench(args, torch)
    try:
        name = torch.cuda.get_device_name() if args.device != "cpu" else "CPU"
        rate, bandwidth = limits(torch, args.device, args.quick)
        bench.row(f"{name}, torch {torch.__version__}: bf16 products", f"{rate / 1e12:.2f} TFLOP/s")
        bench.row("copy in memory", f"{bandwidth / 1e12:.3f} TB/s")
        for shape in args.shapes.split(",") if args.only in (None, "extraction") else []:
            bench.extraction(shape, rate)
            if shape != "llama-3.2-1b" and not args.quick:
                shutil.rmtree(bench.folder / shape)
        if args.only in (None, "generation"):
            bench.generation(bandwidth)
    finally:
        if bench.rows:
            print(bench.table())
        shutil.rmtree(bench.folder)
    if not args.quick and any(row[3] == "FAIL" for row in bench.rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
