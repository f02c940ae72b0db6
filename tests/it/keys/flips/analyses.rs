//! What the keys of each kind of analysis change.

use super::*;

pub static FLIPS: [Flip; 68] = [
    one!("analysis.<name>.pca", "analysis.a0.pca", "components", "3", &["a0/*"]),
    // Shown in the report, not computed.
    one!("analysis.<name>.cosine", "analysis.a1.cosine", "pairs", "[[\"sad\", \"happy\"]]", &[]),
    one!("analysis.<name>.logit_lens", "analysis.a2.logit_lens", "top", "7", &["a2/*"]),
    one!("analysis.<name>.logit_lens", "analysis.a2.logit_lens", "norm", "\"gain\"", &["a2/*"]),
    one!("analysis.<name>.logit_lens", "analysis.a2.logit_lens", "topics", "7", &["a2/*"]),
    one!("analysis.<name>.steering", "analysis.a3.steering", "prompts", "[\"She is\"]", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "strength", "[2.0]", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "unit", "\"resid_norm\"", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "layers", "[1]", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "positions", "\"prompt\"", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "random", "7", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "permuted", "7", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "shuffled", "7", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "topics", "7", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "resamples", "7", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "coherence", "\"none\"", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "together", "true", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "ask", "\"How is he?\"", STEERING),
    one!("analysis.<name>.steering", "analysis.a3.steering", "write", "7", STEERING),
    one!(
        "analysis.<name>.implicit",
        "analysis.a4.implicit",
        "situations",
        "[[\"Rain.\", \"sad\"]]",
        &["a4/*"]
    ),
    one!("analysis.<name>.implicit", "analysis.a4.implicit", "wrap", "\"user\"", &["a4/*"]),
    one!("analysis.<name>.intensity", "analysis.a5.intensity", "wrap", "\"user\"", &["a5/*"]),
    one!(
        "analysis.<name>.intensity.templates.<name>",
        "analysis.a5.intensity.templates.dose",
        "texts",
        "[\"She took {number} mg.\"]",
        &["a5/*"]
    ),
    one!(
        "analysis.<name>.intensity.templates.<name>",
        "analysis.a5.intensity.templates.dose",
        "numbers",
        "[1, 2, 3, 4]",
        &["a5/*"]
    ),
    one!(
        "analysis.<name>.intensity.templates.<name>",
        "analysis.a5.intensity.templates.dose",
        "rise",
        "[\"sad\", \"happy\"]",
        &["a5/*"]
    ),
    one!(
        "analysis.<name>.intensity.templates.<name>",
        "analysis.a5.intensity.templates.dose",
        "fall",
        "[\"happy\"]",
        &["a5/*"]
    ),
    // The table has every pair.
    one!("analysis.<name>.geometry", "analysis.a6.geometry", "pairs", "[[\"sad\", \"happy\"]]", &[]),
    one!("analysis.<name>.geometry", "analysis.a6.geometry", "families", "{ joy = [\"happy\"] }", GEOMETRY),
    flip(
        "analysis.<name>.geometry families",
        &[("analysis.a6.geometry", "families", Some("{ joy = [\"happy\"] }"))],
        &[("analysis.a6.geometry", "families", Some("{ other = [\"happy\"] }"))],
        &[],
    ),
    one!("analysis.<name>.geometry", "analysis.a6.geometry", "resamples", "9", GEOMETRY),
    one!("analysis.<name>.geometry", "analysis.a6.geometry", "permutations", "9", GEOMETRY),
    one!("analysis.<name>.geometry", "analysis.a6.geometry", "halves", "9", GEOMETRY),
    one!("analysis.<name>.probe", "analysis.a7.probe", "folds", "3", PROBE),
    one!("analysis.<name>.probe", "analysis.a7.probe", "penalty", "0.5", PROBE),
    one!("analysis.<name>.probe", "analysis.a7.probe", "resamples", "9", PROBE),
    one!("analysis.<name>.probe", "analysis.a7.probe", "permutations", "9", PROBE),
    one!("analysis.<name>.rsa", "analysis.a8.rsa", "correlation", "\"pearson\"", &["a8"]),
    one!("analysis.<name>.rsa", "analysis.a8.rsa", "permutations", "30", &["a8"]),
    one!("analysis.<name>.rsa", "analysis.a8.rsa", "bootstrap", "30", &["a8"]),
    one!("analysis.<name>.cka", "analysis.a9.cka", "stories", "30", &["a9"]),
    one!("analysis.<name>.cka", "analysis.a9.cka", "permutations", "30", &["a9"]),
    mapped("analysis.<name>.transfer map", &[("analysis.b6.transfer", "map", Some("\"procrustes\""))], true),
    mapped("analysis.<name>.transfer ridge", &[("analysis.b6.transfer", "ridge", Some("0.2"))], true),
    // A rotation is not shrunk.
    flip(
        "analysis.<name>.transfer ridge",
        &[("analysis.b6.transfer", "map", Some("\"procrustes\""))],
        &[("analysis.b6.transfer", "ridge", Some("0.2"))],
        &[],
    ),
    flip(
        "analysis.<name>.transfer layers",
        &[MAPPED, ("", "layers", Some("[0, 1]"))],
        &[("analysis.b6.transfer", "layers", Some("\"all\""))],
        &["b6/*"],
    ),
    mapped("analysis.<name>.transfer folds", &[("analysis.b6.transfer", "folds", Some("4"))], true),
    mapped(
        "analysis.<name>.transfer permutations",
        &[("analysis.b6.transfer", "permutations", Some("30"))],
        true,
    ),
    mapped("analysis.<name>.transfer bootstrap", &[("analysis.b6.transfer", "bootstrap", Some("30"))], true),
    mapped("analysis.<name>.transfer steer", &[MAP_STEERS], true),
    // What is added, only where something is.
    mapped(
        "analysis.<name>.transfer prompts",
        &[("analysis.b6.transfer", "prompts", Some("[\"So\"]"))],
        false,
    ),
    mapped("analysis.<name>.transfer strength", &[("analysis.b6.transfer", "strength", Some("2.0"))], false),
    mapped("analysis.<name>.transfer random", &[("analysis.b6.transfer", "random", Some("7"))], false),
    flip(
        "analysis.<name>.transfer random",
        &[MAPPED, MAP_STEERS],
        &[
            ("analysis.b6.transfer", "random", Some("7")),
            ("analysis.b6.transfer", "prompts", Some("[\"So\"]")),
            ("analysis.b6.transfer", "strength", Some("2.0")),
        ],
        &["b6/*"],
    ),
    // Made with the report.
    flip(
        "analysis.<name>.scale of",
        &[("analysis.b7.scale", "permutations", Some("30"))],
        &[("analysis.b7.scale", "of", Some("[\"a1\"]"))],
        &[],
    ),
    flip(
        "analysis.<name>.scale permutations",
        &[("analysis.b7.scale", "permutations", Some("30"))],
        &[("analysis.b7.scale", "permutations", Some("40"))],
        &[],
    ),
    // A file's place does not matter, its content does.
    one!("analysis.<name>.norms", "analysis.a10.norms", "file", "\"{data}/norms-copy.csv\"", &[]),
    one!("analysis.<name>.norms", "analysis.a10.norms", "file", "\"{data}/norms-more.csv\"", NORMS),
    flip("analysis.<name>.norms file", &[], &[("analysis.a10.norms", "file", None)], NORMS),
    one!("analysis.<name>.norms", "analysis.a10.norms", "synonyms", "0.95", NORMS),
    one!("analysis.<name>.norms", "analysis.a10.norms", "components", "2", NORMS),
    one!("analysis.<name>.norms", "analysis.a10.norms", "resamples", "9", NORMS),
    one!("analysis.<name>.norms", "analysis.a10.norms", "permutations", "9", NORMS),
    // What is taken for a finding computes nothing.
    flip("criteria.<name> claim", &CRITERION, &[("criteria.c", "claim", Some("\"a0/PC2\""))], &[]),
    flip("criteria.<name> at_least", &CRITERION, &[("criteria.c", "at_least", Some("5"))], &[]),
    flip("criteria.<name> at_most", &CRITERION, &[("criteria.c", "at_most", Some("5"))], &[]),
    flip("criteria.<name> between", &CRITERION, &[("criteria.c", "between", Some("[1, 2]"))], &[]),
    flip("criteria.<name> p", &CRITERION, &[("criteria.c", "p", Some("0.01"))], &[]),
    flip("criteria.<name> where", &CRITERION, &[("criteria.c", "where", Some("\"any model\""))], &[]),
];

const CRITERION: [Edit; 2] = [("criteria.c", "claim", Some("\"a0/PC1\"")), ("criteria.c", "p", Some("0.05"))];
