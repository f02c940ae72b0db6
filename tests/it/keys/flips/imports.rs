//! What the keys of vectors of others change.

use super::*;

const THEIRS: &[Edit] =
    &[("vectors.v0", "path", Some("\"{data}/theirs.safetensors\"")), ("vectors.v0", "layers", Some("[0]"))];

pub static FLIPS: [Flip; 3] = [
    flip(
        "vectors.<name> path",
        THEIRS,
        &[("vectors.v0", "path", Some("\"{data}/others.safetensors\""))],
        &["vectors/*/v0"],
    ),
    flip("vectors.<name> layers", THEIRS, &[("vectors.v0", "layers", Some("[1]"))], &["vectors/*/v0"]),
    // Whose they are changes only who has them.
    flip("vectors.<name> model", THEIRS, &[("vectors.v0", "model", Some("\"m0\""))], &[]),
];
