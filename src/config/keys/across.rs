//! The keys of each kind of analysis across models. Knows nothing of how they are read.

use super::key;
use crate::params::Default::{Is, Said};
use crate::params::{Key, Table, Type, Value, Words};
use crate::stages::across::{rsa, transfer};

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

pub static RSA: Table = Table {
    about: "Between any two sets of vectors: the correlation of their cosines between emotions.",
    abouts: &[],
    keys: &[
        key(
            "correlation",
            <rsa::Correlation as Value>::OF,
            Is("\"spearman\""),
            "Of ranks (`spearman`) or of the cosines themselves (`pearson`).",
        ),
        PERMUTATIONS,
        BOOTSTRAP,
    ],
};

pub static CKA: Table = Table {
    about: "Between two models that read the same stories: linear centred kernel alignment of their activations.",
    abouts: &[],
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

pub static TRANSFER: Table = Table {
    about: "From each model to each other that read the same stories: emotion vectors through a linear map, fitted on \
            some topics and tested on others.",
    abouts: &[],
    keys: &[
        key(
            "map",
            <transfer::Kinds as Value>::OF,
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
            <transfer::Layers as Value>::OF,
            Is("\"default\""),
            "Which of the target's kept layers are reached; `default`: the one nearest to 2/3 of the depth.",
        ),
        key(
            "folds",
            Type::Integer { min: 3, max: 1000 },
            Is("5"),
            "Parts that topics (of templates: passages) are dealt into, in turns one that vectors are mapped from, one that they \
             are tested on, and the others, which the map is fitted on.",
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
            "With `steer`: random directions of the same norm, and as many mapped vectors of shuffled cells: the nulls.",
        ),
    ],
};

pub static SCALE: Table = Table {
    about: "The claims of analyses of single models, over the models' parameters and over the depth. Made with \
            the report.",
    abouts: &[],
    keys: &[
        key("of", Type::Texts, Said("all"), "Names of the analyses whose numbers are shown."),
        PERMUTATIONS,
    ],
};
