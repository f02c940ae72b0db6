"""A no-op run of emoflow beside Snakemake and DVC: the same graph, everything up to date, wall seconds.

    pip install snakemake dvc
    cargo build --release && python benches/beside.py [NODES]

The graph is that of benches/orchestrator.rs: for each source of stories a chain stories -> activations -> vectors, and
seven analyses of the vectors. Each node is one small file for Snakemake and DVC, one cache entry for emoflow. DVC is asked
twice, for `repro` and for the lighter `status`. Each number is the median of three runs after one that is not counted.
"""

import hashlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ANALYSES = 7

SNAKEFILE = """
SOURCES = range({sources})
ANALYSES = range({analyses})

rule all:
    input: expand("analysis/{{a}}/{{s}}.txt", a=ANALYSES, s=SOURCES)

rule stories:
    output: "stories/{{s}}.txt"
    shell: "echo {{wildcards.s}} > {{output}}"

rule activations:
    input: "stories/{{s}}.txt"
    output: "activations/{{s}}.txt"
    shell: "cp {{input}} {{output}}"

rule vectors:
    input: "activations/{{s}}.txt"
    output: "vectors/{{s}}.txt"
    shell: "cp {{input}} {{output}}"

rule analysis:
    input: "vectors/{{s}}.txt"
    output: "analysis/{{a}}/{{s}}.txt"
    shell: "cp {{input}} {{output}}"
"""


def run(command, folder):
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if ran.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))}: exit {ran.returncode}\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}")
    return ran.stdout + ran.stderr


def seconds(command, folder, said):
    """Median wall time of `command`, which must say `said`: that there was nothing to do."""
    times = []
    for _ in range(4):
        begun = time.perf_counter()
        output = run(command, folder)
        times.append(time.perf_counter() - begun)
        if said not in output:
            sys.exit(f"{' '.join(map(str, command))} did not say `{said}`:\n{output[-2000:]}")
    return statistics.median(times[1:])


def make_files(folder, sources):
    """Every node's file, inputs first, so that no file is older than what it is made of."""
    for stage in ["stories", "activations", "vectors", *(f"analysis/{a}" for a in range(ANALYSES))]:
        (folder / stage).mkdir(parents=True)
        for source in range(sources):
            (folder / stage / f"{source}.txt").write_text(f"{source}\n")


def snakemake(folder, sources):
    make_files(folder, sources)
    (folder / "Snakefile").write_text(SNAKEFILE.format(sources=sources, analyses=ANALYSES))
    run(["snakemake", "--cores", "1", "--touch", "--quiet"], folder)
    return seconds(["snakemake", "--cores", "1"], folder, "Nothing to be done")


def dvc(folder, sources):
    make_files(folder, sources)
    run(["dvc", "init", "--no-scm", "--quiet"], folder)
    run(["dvc", "config", "core.analytics", "false"], folder)
    run(["dvc", "config", "core.check_update", "false"], folder)
    inputs = {"stories": None, "activations": "stories", "vectors": "activations"}
    inputs |= {f"analysis/{a}": "vectors" for a in range(ANALYSES)}
    numbers = ", ".join(map(str, range(sources)))
    stages, lock = ["stages:"], ["schema: '2.0'", "stages:"]
    for stage, of in inputs.items():
        out = f"{stage}/${{item}}.txt"
        command = f"cp {of}/${{item}}.txt {out}" if of else f"echo ${{item}} > {out}"
        name = stage.replace("/", "-")
        stages += [f"  {name}:", f"    foreach: [{numbers}]", "    do:", f"      cmd: {command}"]
        stages += [f"      deps: ['{of}/${{item}}.txt']"] if of else []
        stages += [f"      outs: [{{'{out}': {{cache: false}}}}]"]
        for source in range(sources):
            def entry(folder_name):
                content = f"{source}\n".encode()
                path, digest = f"{folder_name}/{source}.txt", hashlib.md5(content).hexdigest()
                return [f"    - path: {path}", "      hash: md5", f"      md5: {digest}", f"      size: {len(content)}"]

            lock += [f"  {name}@{source}:", f"    cmd: {command.replace('${item}', str(source))}"]
            lock += ["    deps:", *entry(of)] if of else []
            lock += ["    outs:", *entry(stage)]
    (folder / "dvc.yaml").write_text("\n".join(stages) + "\n")
    (folder / "dvc.lock").write_text("\n".join(lock) + "\n")
    said = "Data and pipelines are up to date."
    return seconds(["dvc", "repro"], folder, said), seconds(["dvc", "status"], folder, said)


def emoflow(folder, nodes):
    run(["cargo", "bench", "--quiet", "--bench", "orchestrator", "--", "--keep", folder, str(nodes)], ROOT)
    program = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/emoflow"
    return seconds([program, "run", "exp.toml", "--device", "cpu"], folder, "ran 0, cached")


def main():
    nodes = int(sys.argv[1]) if len(sys.argv) > 1 else 1000
    sources = nodes // (3 + ANALYSES)
    for program in ["snakemake", "dvc"]:
        if shutil.which(program) is None:
            sys.exit(f"no `{program}` in PATH: pip install snakemake dvc")
    with tempfile.TemporaryDirectory() as place:
        folders = {name: Path(place) / name for name in ["emoflow", "snakemake", "dvc"]}
        for folder in folders.values():
            folder.mkdir()
        ours = emoflow(folders["emoflow"], nodes)
        print(f"{nodes} nodes, nothing to do\n{'emoflow run':<14}{ours:>9.3f} s", flush=True)
        theirs = {"snakemake": snakemake(folders["snakemake"], sources)}
        print(f"{'snakemake':<14}{theirs['snakemake']:>9.3f} s {theirs['snakemake'] / ours:>7.0f} x", flush=True)
        for name, took in zip(["dvc repro", "dvc status"], dvc(folders["dvc"], sources)):
            print(f"{name:<14}{took:>9.3f} s {took / ours:>7.0f} x", flush=True)


if __name__ == "__main__":
    main()
