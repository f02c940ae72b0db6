//! What the keys of dialogues, and of what reads spans of them, change.

use super::*;

const D: &str = "dialogues.d0.generate";
/// Dialogues that each model writes.
const SPOKEN: &[Edit] = &[
    (D, "topics", Some("[\"a lost key\"]")),
    (D, "per_topic", Some("1")),
    (D, "max_new_tokens", Some("32")),
];
/// Up to three of them in a reply.
const THREE: &[Edit] = &[
    SPOKEN[0],
    SPOKEN[2],
    (D, "per_topic", Some("3")),
    (D, "per_reply", Some("3")),
    (D, "prompt", Some("\"{count} talks of {topic}: {emotion}, {other}.\"")),
];
const OWN: &[&str] = &["stories/d0@*"];
const FIXED: &[Edit] =
    &[("dialogues.d0.template", "passages", Some("[\"Person: {emotion}\\nAssistant: {other}\"]"))];
/// Of one passage alone second emotions may be the same for both kinds.
const SEVERAL: &[Edit] = &[(
    "dialogues.d0.template",
    "passages",
    Some(
        "[\"Person: {emotion}\\nAssistant: {other}\", \"Person: So {emotion}\\nAssistant: {other}\", \
         \"Person: {emotion}?\\nAssistant: {other}\", \"Person: {emotion}!\\nAssistant: {other}\", \
         \"Person: Oh {emotion}\\nAssistant: {other}\", \"Person: As {emotion}\\nAssistant: {other}\"]",
    ),
)];
const LOGS: &[Edit] = &[("dialogues.d0.file", "path", Some("\"logs.jsonl\""))];
/// Dialogues, and what is read of them at the first layer.
const HEARD: &[Edit] = &[
    FIXED[0],
    ("analysis.c3.speakers", "dialogues", Some("\"d0\"")),
    ("analysis.c3.speakers", "layers", Some("[0]")),
    ("dialogues.d1.template", "passages", Some("[\"Person: So {emotion}\\nAssistant: {other}\"]")),
];

/// The same of dialogues in which an emotion is hidden.
const HIDING: &[Edit] = &[
    ("dialogues.d0.template", "kind", Some("\"deflection\"")),
    FIXED[0],
    (H, "dialogues", Some("\"d0\"")),
    (H, "layers", Some("[0]")),
    ("dialogues.d1.template", "kind", Some("\"deflection\"")),
    HEARD[3],
];
const H: &str = "analysis.c5.deflection";
const HIDDEN: &[&str] = &["c5/*"];

/// A key of the analysis that reads these.
const fn hidden(key: &'static str, edits: &'static [Edit], roots: &'static [&'static str]) -> Flip {
    flip(key, HIDING, edits, roots)
}

const SPOKEN_AND_HEARD: &[Edit] = &[SPOKEN[0], SPOKEN[1], SPOKEN[2], HEARD[1], HEARD[2]];

/// A key of the dialogues that each model writes.
const fn spoken(key: &'static str, edits: &'static [Edit]) -> Flip {
    flip(key, SPOKEN, edits, OWN)
}

/// A key of the files of dialogues.
const fn logged(key: &'static str, edits: &'static [Edit], changes: bool) -> Flip {
    flip(key, LOGS, edits, if changes { &["texts/d0"] } else { &[] })
}

/// A key of the analysis that reads them.
const fn heard(key: &'static str, edits: &'static [Edit], roots: &'static [&'static str]) -> Flip {
    flip(key, HEARD, edits, roots)
}

/// Two models before the answer to prompts, at the first layer.
const SHIFTED: &[Edit] = &[
    (S, "base", Some("\"m0\"")),
    (S, "tuned", Some("\"m1\"")),
    (S, "permutations", Some("9")),
    ("models.m0", "layers", Some("[0]")),
    ("models.m1", "layers", Some("[0]")),
];
const S: &str = "analysis.c4.shift";
const SHIFTED_AT_TWO: &[Edit] = &[
    SHIFTED[0],
    SHIFTED[1],
    ("models.m0", "layers", Some("[0, 1]")),
    ("models.m1", "layers", Some("[0, 1]")),
];
const MOVED: &[&str] = &["c4/m1/*"];

const fn shifted(key: &'static str, edits: &'static [Edit], roots: &'static [&'static str]) -> Flip {
    flip(key, SHIFTED, edits, roots)
}

const HEARING: &[&str] = &["spans/c3/*", "c3/*"];

pub static FLIPS: &[Flip] = &[
    spoken("dialogues.<name>.generate kind", &[(D, "kind", Some("\"deflection\""))]),
    // What m0 writes for itself or for all is the same to m0.
    flip(
        "dialogues.<name>.generate model",
        SPOKEN_AND_HEARD,
        &[(D, "model", Some("\"m0\""))],
        &["spans/c3/m1", "spans/c3/m2", "spans/c3/m3"],
    ),
    spoken("dialogues.<name>.generate topics", &[(D, "topics", Some("[\"a found key\"]"))]),
    flip("dialogues.<name>.generate per_topic", SPOKEN, &[(D, "per_topic", Some("3"))], &["stories/d0@*"]),
    spoken("dialogues.<name>.generate max_new_tokens", &[(D, "max_new_tokens", Some("64"))]),
    spoken("dialogues.<name>.generate temperature", &[(D, "temperature", Some("1.5"))]),
    spoken("dialogues.<name>.generate top_p", &[(D, "top_p", Some("0.5"))]),
    spoken("dialogues.<name>.generate top_k", &[(D, "top_k", Some("7"))]),
    spoken("dialogues.<name>.generate prompt", &[(D, "prompt", Some("\"{topic}: {emotion}, {other}.\""))]),
    spoken("dialogues.<name>.generate system", &[(D, "system", Some("\"Write well.\""))]),
    flip("dialogues.<name>.generate per_reply", THREE, &[(D, "per_reply", Some("2"))], OWN),
    flip("dialogues.<name>.generate separator", THREE, &[(D, "separator", Some("\"<next>\""))], OWN),
    spoken(
        "dialogues.<name>.generate.reject names_emotion",
        &[("dialogues.d0.generate.reject", "names_emotion", Some("false"))],
    ),
    spoken(
        "dialogues.<name>.generate.reject min_tokens",
        &[("dialogues.d0.generate.reject", "min_tokens", Some("3"))],
    ),
    spoken(
        "dialogues.<name>.generate.reject attempts",
        &[("dialogues.d0.generate.reject", "attempts", Some("9"))],
    ),
    spoken(
        "dialogues.<name>.generate.reject refusals",
        &[("dialogues.d0.generate.reject", "refusals", Some("false"))],
    ),
    spoken("dialogues.<name>.generate.reject cut", &[("dialogues.d0.generate.reject", "cut", Some("true"))]),
    spoken(
        "dialogues.<name>.generate.reject near_duplicate",
        &[("dialogues.d0.generate.reject", "near_duplicate", Some("0.9"))],
    ),
    flip(
        "dialogues.<name>.template kind",
        SEVERAL,
        &[("dialogues.d0.template", "kind", Some("\"deflection\""))],
        &["stories/d0"],
    ),
    flip(
        "dialogues.<name>.template passages",
        FIXED,
        &[("dialogues.d0.template", "passages", Some("[\"Person: Oh {emotion}\\nAssistant: {other}\"]"))],
        &["stories/d0"],
    ),
    // Which analysis may read them.
    logged("dialogues.<name>.file kind", &[("dialogues.d0.file", "kind", Some("\"deflection\""))], false),
    logged("dialogues.<name>.file path", &[("dialogues.d0.file", "path", Some("\"more.jsonl\""))], true),
    logged("dialogues.<name>.file emotion", &[("dialogues.d0.file", "emotion", Some("\"other\""))], true),
    logged("dialogues.<name>.file other", &[("dialogues.d0.file", "other", Some("\"emotion\""))], true),
    logged("dialogues.<name>.file topic", &[("dialogues.d0.file", "topic", Some("\"outcome\""))], true),
    logged("dialogues.<name>.file broken", &[("dialogues.d0.file", "broken", Some("\"error\""))], false),
    // The other way round it is listed under the other model.
    shifted("analysis.<name>.shift base", &[(S, "base", Some("\"m1\"")), (S, "tuned", Some("\"m0\""))], &[]),
    shifted("analysis.<name>.shift tuned", &[(S, "base", Some("\"m1\"")), (S, "tuned", Some("\"m0\""))], &[]),
    shifted("analysis.<name>.shift vectors", &[(S, "vectors", Some("\"base\""))], MOVED),
    shifted(
        "analysis.<name>.shift prompts",
        &[(S, "prompts", Some("{ a = [\"b\", \"c\", \"d\"] }"))],
        &["texts/c4.texts", "c4/m1/*"],
    ),
    shifted("analysis.<name>.shift wrap", &[(S, "wrap", Some("\"chat\""))], &["spans/c4/*", "c4/m1/*"]),
    flip(
        "analysis.<name>.shift layers",
        SHIFTED_AT_TWO,
        &[(S, "layers", Some("\"all\""))],
        &["spans/c4/*", "c4/m1/*"],
    ),
    shifted("analysis.<name>.shift resamples", &[(S, "resamples", Some("7"))], MOVED),
    shifted("analysis.<name>.shift permutations", &[(S, "permutations", Some("7"))], MOVED),
    heard(
        "analysis.<name>.speakers dialogues",
        &[("analysis.c3.speakers", "dialogues", Some("\"d1\""))],
        HEARING,
    ),
    heard("analysis.<name>.speakers layers", &[("analysis.c3.speakers", "layers", Some("[1]"))], HEARING),
    heard(
        "analysis.<name>.speakers resamples",
        &[("analysis.c3.speakers", "resamples", Some("7"))],
        &["c3/*"],
    ),
    heard(
        "analysis.<name>.speakers permutations",
        &[("analysis.c3.speakers", "permutations", Some("7"))],
        &["c3/*"],
    ),
    heard(
        "analysis.<name>.speakers situations",
        &[("analysis.c3.speakers", "situations", Some("[[\"It rains.\", \"sad\"]]"))],
        &["c3/*"],
    ),
    hidden(
        "analysis.<name>.deflection dialogues",
        &[(H, "dialogues", Some("\"d1\""))],
        &["spans/c5/*", "c5/*"],
    ),
    hidden("analysis.<name>.deflection layers", &[(H, "layers", Some("[1]"))], &["spans/c5/*", "c5/*"]),
    hidden("analysis.<name>.deflection variance", &[(H, "variance", Some("0.5"))], HIDDEN),
    hidden("analysis.<name>.deflection top", &[(H, "top", Some("2"))], HIDDEN),
    hidden(
        "analysis.<name>.deflection prompts",
        &[(H, "prompts", Some("{ a = [\"b\", \"c\", \"d\"], e = [\"f\", \"g\", \"h\"] }"))],
        HIDDEN,
    ),
    hidden("analysis.<name>.deflection resamples", &[(H, "resamples", Some("7"))], HIDDEN),
    hidden("analysis.<name>.deflection permutations", &[(H, "permutations", Some("7"))], HIDDEN),
];
