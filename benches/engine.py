"""Extraction and generation beside transformers: the same weights, the same texts, in one run.

    pip install torch==2.11.0 transformers numpy
    cargo build --release && cargo build --release --example random_checkpoint
    python benches/engine.py [--shape smollm2-135m] [--dtype f32] [--texts 512] [--rounds 3] [--only extraction]

Extraction (texts of 20 to 250 tokens, evenly drawn): tokens a second, and peak memory above the weights, of
- the usual loop: `output_hidden_states=True`, batches of 8 in the order of the file, the mean over tokens in Python;
- a careful loop: sorted by length, batches of 8, hooks that pool on the device, no `lm_head`;
- emoflow at all layers, and at two thirds of the depth only: its node `activations`, with loading, tokenising, storing.
Generation (32 sequences of 64 tokens, sampled at temperature 1): tokens a second of `generate` and of emoflow's node
`stories`. Each measurement is a process of its own, in turn, round after round; a table of medians is at the end.
"""

import argparse
import json
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORDS = "the a lost key was found under old stairs and nobody knew who had put it there so many years ago".split()
EXPERIMENT = """
layers = {layers}
shard = {shard}
[models.m]
path = "{model}"
dtype = "{dtype}"
[emotions]
words = ["happy", "sad"]
{stories}
[activations]
from_token = 0
[vectors]
denoise = "none"
"""
WATCH = """import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"""
FILE = '[stories.s.file]\npath = "{}"'
GENERATE = """[stories.s.generate]
topics = {topics}
per_topic = 1
max_new_tokens = 64
temperature = 1.0
top_p = {top_p}
prompt = "Write of {{topic}} and {{emotion}}."
reject = {{ names_emotion = false, refusals = false, attempts = 1 }}"""


def texts(tokenizer, count):
    """Texts of 20 to 250 tokens."""
    draw, out = random.Random(0), []
    for _ in range(count):
        wanted, words = draw.randint(20, 250), []
        while len(tokenizer(" ".join(words))["input_ids"]) < wanted:
            words.append(draw.choice(WORDS))
        out.append(" ".join(words))
    return out


def reference(args):
    """One measurement of transformers, printed as JSON."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(args.model)
    tokenizer.pad_token_id, tokenizer.padding_side = 0, "right"
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[args.dtype]
    device = args.device
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=dtype, attn_implementation="sdpa").to(device).eval()
    stories = [json.loads(line)["text"] for line in open(args.stories)]
    sync = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with torch.no_grad():
        model(torch.tensor([[1, 2, 3]], device=device))
        sync()
        begun = time.perf_counter()
        tokens = globals()[args.loop](torch, tokenizer, model, stories, args)
        sync()
        seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"rate": tokens / seconds, "above": peak / 1024}))


def usual(torch, tokenizer, model, stories, args):
    means, tokens = [], 0
    for at in range(0, len(stories), 8):
        batch = tokenizer(stories[at : at + 8], return_tensors="pt", padding=True).to(model.device)
        states = model(**batch, output_hidden_states=True).hidden_states[1:]
        mask = batch["attention_mask"].unsqueeze(-1)
        for state in states:
            means.append(((state.float() * mask).sum(1) / mask.sum(1)).cpu())
        tokens += int(mask.sum())
    return tokens


def careful(torch, tokenizer, model, stories, args):
    rows = sorted((tokenizer(text)["input_ids"] for text in stories), key=len, reverse=True)
    batches, pooled, mask = [rows[at : at + 8] for at in range(0, len(rows), 8)], [], None

    def pool(_module, _inputs, output):
        state = output[0] if isinstance(output, tuple) else output
        pooled.append(((state.float() * mask).sum(1) / mask.sum(1)))

    hooks = [layer.register_forward_hook(pool) for layer in model.model.layers]
    means = []
    for batch in batches:
        width = len(batch[0])
        ids = torch.tensor([row + [0] * (width - len(row)) for row in batch], device=model.device)
        attention = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in batch], device=model.device)
        mask = attention.unsqueeze(-1)
        model.model(input_ids=ids, attention_mask=attention, use_cache=False)
        means.append(torch.stack(pooled).cpu())
        pooled.clear()
    for hook in hooks:
        hook.remove()
    return sum(map(len, rows))


def generate(torch, tokenizer, model, stories, args):
    prompts = [f"Write of topic {at} and {emotion}." for emotion in ("happy", "sad") for at in range(args.sequences // 2)]
    tokenizer.padding_side = "left"
    batch = tokenizer(prompts, return_tensors="pt", padding=True).to(model.device)
    torch.manual_seed(0)
    model.generate(
        **batch, do_sample=True, temperature=1.0, top_p=args.top_p, top_k=0, min_new_tokens=64, max_new_tokens=64, pad_token_id=0
    )
    return 64 * len(prompts)


def emoflow(args, folder, stories, node, layers, tokens):
    """One measurement of emoflow in an empty cache."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    text = EXPERIMENT.format(layers=layers, shard=args.texts, model=args.model, dtype=args.dtype, stories=stories)
    (folder / "exp.toml").write_text(text)
    command = [args.emoflow, "run", folder / "exp.toml", "--quiet", "--device", args.device, "--only", node]
    # From a small process: what is counted for a program begins with what the one that starts it has.
    watched = [sys.executable, "-c", WATCH, *(str(part) for part in command)]
    peak = int(subprocess.run(watched, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])
    run = json.loads((folder / "results/exp/run.json").read_text())
    seconds = next(n["seconds"] for n in run["nodes"] if n["name"].startswith(node.split("*")[0]))
    bytes_each = {"f32": 4, "bf16": 2}[args.dtype]
    weights = run["models"][0]["n_params"] * bytes_each / 2**20
    return {"rate": tokens / seconds, "above": peak / 1024 - weights}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="smollm2-135m")
    parser.add_argument("--model", help="a checkpoint, instead of a random one of that shape")
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--texts", type=int, default=512)
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=["extraction", "generation"])
    parser.add_argument("--emoflow", default=ROOT / "target/release/emoflow")
    parser.add_argument("--loop", help=argparse.SUPPRESS)
    parser.add_argument("--stories", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.loop:
        return reference(args)

    from transformers import AutoTokenizer

    folder = Path(tempfile.mkdtemp())
    (folder / "emoflow.toml").touch()
    if not args.model:
        args.model = folder / "model"
        make = [ROOT / "target/release/examples/random_checkpoint", args.shape, args.model, "--dtype", args.dtype]
        subprocess.run([str(part) for part in make], check=True)
    args.model = Path(args.model).resolve()
    tokenizer = AutoTokenizer.from_pretrained(args.model)
    stories = texts(tokenizer, args.texts)
    tokens = sum(len(tokenizer(text)["input_ids"]) for text in stories)
    args.stories = folder / "stories.jsonl"
    with open(args.stories, "w") as file:
        for at, text in enumerate(stories):
            file.write(json.dumps({"emotion": ("happy", "sad")[at % 2], "text": text}) + "\n")
    n_layers = json.loads((Path(args.model) / "config.json").read_text())["num_hidden_layers"]

    def loop(name):
        passed = {"--model": args.model, "--dtype": args.dtype, "--device": args.device, "--stories": args.stories}
        passed |= {"--sequences": args.sequences, "--top-p": args.top_p, "--loop": name}
        command = [sys.executable, __file__, *(str(part) for pair in passed.items() for part in pair)]
        return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.splitlines()[-1])

    read, node = FILE.format(args.stories), "activations/*"
    write = GENERATE.format(topics=json.dumps([f"topic {at}" for at in range(args.sequences // 2)]), top_p=args.top_p)
    measured = {
        "extraction: usual loop": lambda: loop("usual"),
        "extraction: careful loop": lambda: loop("careful"),
        "extraction: emoflow, all layers": lambda: emoflow(args, folder, read, node, '"all"', tokens),
        "extraction: emoflow, one layer": lambda: emoflow(args, folder, read, node, [n_layers * 2 // 3], tokens),
        "generation: transformers": lambda: loop("generate"),
        "generation: emoflow": lambda: emoflow(args, folder, write, "stories/*", [0], args.sequences * 64),
    }
    measured = {name: run for name, run in measured.items() if name.startswith(args.only or "")}
    found = {name: [] for name in measured}
    for _ in range(args.rounds):
        for name, run in measured.items():
            found[name].append(run())
            print(f"{name}: {found[name][-1]['rate']:.0f} tokens/s", file=sys.stderr)
    print(f"{args.shape}, {args.dtype}, {args.device}; {args.texts} texts, {tokens} tokens; medians of {args.rounds}")
    print("| | tokens/s | MB above the weights |\n|---|---|---|")
    for name, results in found.items():
        rate, above = (statistics.median(result[key] for result in results) for key in ("rate", "above"))
        print(f"| {name} | {rate:.0f} | {above:.0f} |")
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
