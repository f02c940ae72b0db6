"""Writes goldens.json: vectors, neutral components, PCA and cosines of random numbers, by NumPy.

`tests/it/stages.rs` gives the same numbers to emoflow's stages. Run from the project's root:

    python tests/e2e/goldens.py
"""

import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
D_MODEL, STORIES, NEUTRAL = 7, [4, 3, 5, 4], 12


def components(rows):
    """Ratios and directions by the eigenvectors of the covariance, signs fixed."""
    values, vectors = np.linalg.eigh(np.cov(rows.T))
    order = np.argsort(-values)[: min(len(rows) - 1, rows.shape[1])]
    directions = vectors[:, order].T
    signs = np.sign([row[np.abs(row).argmax()] for row in directions])
    return values[order] / values.sum(), directions * signs[:, None]


def main():
    random = np.random.default_rng(5)
    stories = [(random.normal(size=(n, D_MODEL)) + 2 * random.normal(size=D_MODEL)).astype(np.float32) for n in STORIES]
    neutral = (random.normal(size=(NEUTRAL, D_MODEL)) * np.arange(D_MODEL, 0, -1)).astype(np.float32)
    exact = [rows.astype(np.float64) for rows in stories]
    means = np.array([rows.mean(0) for rows in exact])
    raw = means - means.mean(0)
    ratios, directions = components(neutral.astype(np.float64))
    wanted = 0.6
    removed = int(np.searchsorted(np.cumsum(ratios), wanted)) + 1
    u = directions[:removed].T
    vectors = raw - raw @ u @ u.T
    pca_ratios, axes = components(vectors)
    norms = np.linalg.norm(vectors, axis=1)
    found = {
        "d_model": D_MODEL,
        "stories": [rows.tolist() for rows in stories],
        "neutral": neutral.tolist(),
        "variance": wanted,
        "removed": removed,
        "neutral_ratio": ratios.tolist(),
        "neutral_direction": directions.tolist(),
        "raw": raw.tolist(),
        "vector": vectors.tolist(),
        "resid_norm": float(np.mean([np.linalg.norm(row) for rows in exact for row in rows])),
        "pca_ratio": pca_ratios[:3].tolist(),
        "pca_score": ((vectors - vectors.mean(0)) @ axes[:3].T).tolist(),
        "cosine": (vectors @ vectors.T / np.outer(norms, norms)).tolist(),
    }
    (HERE / "goldens.json").write_text(json.dumps(found, indent=None) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
