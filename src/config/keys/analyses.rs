//! The keys of each kind of analysis. Knows nothing of how they are read.

use super::Default::{Is, Said};
use super::{Key, Kind, Table, Type, Words, at_least, key, words};
use crate::lm::{LensNorm, Positions};
use crate::stages::across::{rsa, transfer};
use crate::stages::analysis::steering::Unit;

impl Words for LensNorm {
    const WORDS: &'static [(&'static str, Self)] =
        &[("none", LensNorm::None), ("gain", LensNorm::Gain), ("full", LensNorm::Full)];
}
impl Words for Unit {
    const WORDS: &'static [(&'static str, Self)] =
        &[("vector", Unit::Vector), ("resid_norm", Unit::ResidNorm)];
}
impl Words for Positions {
    const WORDS: &'static [(&'static str, Self)] =
        &[("all", Positions::All), ("prompt", Positions::Prompt), ("generated", Positions::Generated)];
}

impl Words for rsa::Correlation {
    const WORDS: &'static [(&'static str, Self)] =
        &[("spearman", rsa::Correlation::Spearman), ("pearson", rsa::Correlation::Pearson)];
}
impl Words for transfer::Kinds {
    const WORDS: &'static [(&'static str, Self)] =
        &[("ridge", transfer::Kinds::Ridge), ("procrustes", transfer::Kinds::Procrustes)];
}
impl Words for transfer::Layers {
    const WORDS: &'static [(&'static str, Self)] =
        &[("default", transfer::Layers::Default), ("all", transfer::Layers::All)];
}

/// The kinds of analyses.
pub static ANALYSES: &[Kind] = &[
    Kind { name: "pca", table: &PCA },
    Kind { name: "cosine", table: &COSINE },
    Kind { name: "logit_lens", table: &LOGIT_LENS },
    Kind { name: "steering", table: &STEERING },
    Kind { name: "rsa", table: &RSA },
    Kind { name: "cka", table: &CKA },
    Kind { name: "transfer", table: &TRANSFER },
    Kind { name: "scale", table: &SCALE },
];

static PCA: Table = Table {
    path: "analysis.<name>.pca",
    about: "Principal components of the emotion vectors.",
    keys: &[key("components", at_least(1), Is("4"), "How many are kept.")],
};

static COSINE: Table = Table {
    path: "analysis.<name>.cosine",
    about: "Cosines between all emotion vectors.",
    keys: &[key(
        "pairs",
        Type::Pairs,
        Is("[]"),
        "Pairs with a row of their own in the report, beside published values where there are any.",
    )],
};

static LOGIT_LENS: Table = Table {
    path: "analysis.<name>.logit_lens",
    about: "The tokens that a vector promotes and suppresses most.",
    keys: &[
        key("top", at_least(1), Is("10"), "How many on each side."),
        key(
            "norm",
            Type::Choice(words::<LensNorm>),
            Is("\"none\""),
            "`none`: `W_U v`; `gain`: `W_U (gain * v)`; `full`: the final norm applied to `v` first.",
        ),
    ],
};

static STEERING: Table = Table {
    path: "analysis.<name>.steering",
    about: "What adding a vector does to the log-probability of every emotion's word after a prompt.",
    keys: &[
        key(
            "prompts",
            Type::Texts,
            Is("[\"He feels\"]"),
            "The beginnings; each emotion's word is measured after each of them, with a space before it.",
        ),
        key(
            "strength",
            Type::Numbers,
            Is("[1.0]"),
            "How strongly; not 0. Below 0 only with `unit = \"vector\"`.",
        ),
        key(
            "unit",
            Type::Choice(words::<Unit>),
            Is("\"vector\""),
            "`vector`: adds strength * v; `resid_norm`: adds strength * (mean residual norm at that layer) * v/|v|.",
        ),
        key(
            "layers",
            Type::Forms { words: &["default", "all"], integers: true, table: None },
            Is("\"default\""),
            "Which of the kept layers are steered; `default`: the one nearest to 2/3 of the depth.",
        ),
        key(
            "positions",
            Type::Choice(words::<Positions>),
            Is("\"all\""),
            "Which tokens' residual streams the vector is added to.",
        ),
        key(
            "random",
            Type::Integer { min: 0, max: 10_000 },
            Is("5"),
            "Random directions of the same norm beside each vector: the null.",
        ),
    ],
};

/// Of a permutation test: 1000 orders make 0.001 the smallest p-value (Phipson and Smyth 2010).
const PERMUTATIONS: Key = key(
    "permutations",
    Type::Integer { min: 1, max: 1_000_000 },
    Is("1000"),
    "Random orders behind a p-value, which cannot be below 1 / (1 + this).",
);

/// What a percentile interval needs (Efron and Tibshirani 1993, section 13.3).
const BOOTSTRAP: Key = key(
    "bootstrap",
    Type::Integer { min: 1, max: 1_000_000 },
    Is("1000"),
    "Draws with replacement behind an interval.",
);

static RSA: Table = Table {
    path: "analysis.<name>.rsa",
    about: "Between any two sets of vectors: the correlation of their cosines between emotions.",
    keys: &[
        key(
            "correlation",
            Type::Choice(words::<rsa::Correlation>),
            Is("\"spearman\""),
            "Of ranks (`spearman`) or of the cosines themselves (`pearson`).",
        ),
        PERMUTATIONS,
        BOOTSTRAP,
    ],
};

static CKA: Table = Table {
    path: "analysis.<name>.cka",
    about: "Between two models that read the same stories: linear centred kernel alignment of their activations.",
    keys: &[
        key(
            "stories",
            Type::Integer { min: 10, max: 20_000 },
            Is("1000"),
            "At most so many stories of a source, always the same: time and memory grow with the square.",
        ),
        PERMUTATIONS,
    ],
};

static TRANSFER: Table = Table {
    path: "analysis.<name>.transfer",
    about: "From each model to each other that read the same stories: emotion vectors through a linear map, fitted on \
            some topics and tested on others.",
    keys: &[
        key(
            "map",
            Type::Choice(words::<transfer::Kinds>),
            Is("\"ridge\""),
            "`ridge`: least squares with shrinkage; `procrustes`: a rotation.",
        ),
        key(
            "ridge",
            Type::Number { from: 0.0, above: true, to: 1e6 },
            Is("0.1"),
            "The shrinkage of a ridge map, as a multiple of the mean eigenvalue of the Gram matrix of what it maps.",
        ),
        key(
            "layers",
            Type::Choice(words::<transfer::Layers>),
            Is("\"default\""),
            "Which of the target's kept layers are reached; `default`: the one nearest to 2/3 of the depth.",
        ),
        key(
            "folds",
            Type::Integer { min: 2, max: 1000 },
            Is("5"),
            "Parts that topics (of templates: passages) are dealt into; each is tested with a map fitted on the others.",
        ),
        PERMUTATIONS,
        BOOTSTRAP,
        key(
            "steer",
            Type::Bool,
            Is("false"),
            "Whether the mapped vectors are also added to the target, as in `steering`.",
        ),
        key(
            "prompts",
            Type::Texts,
            Is("[\"He feels\"]"),
            "With `steer`: the beginnings after which each emotion's word is measured.",
        ),
        key(
            "strength",
            Type::Number { from: 0.0, above: true, to: 1e6 },
            Is("1.0"),
            "With `steer`: the norm of what is added, as a multiple of the norm of the target's own vector.",
        ),
        key(
            "random",
            Type::Integer { min: 0, max: 10_000 },
            Is("20"),
            "With `steer`: random directions of the same norm, the null.",
        ),
    ],
};

static SCALE: Table = Table {
    path: "analysis.<name>.scale",
    about: "The headline numbers of analyses of single models, over the models' parameters and over the depth. Made with \
            the report.",
    keys: &[
        key("of", Type::Texts, Said("all"), "Names of the analyses whose numbers are shown."),
        PERMUTATIONS,
    ],
};
