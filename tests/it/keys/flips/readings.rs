//! What the keys of transcripts, readings and monitors change.

use super::*;

const LOGS: Edit = ("transcripts.t0.file", "path", Some("\"logs.jsonl\""));
/// Transcripts that are read, at the first layer.
const READ: &[Edit] = &[
    LOGS,
    ("analysis.c0.readings", "transcripts", Some("[\"t0\"]")),
    ("analysis.c0.readings", "layers", Some("[0]")),
];
/// Transcripts that are watched.
const WATCHED: &[Edit] = &[
    LOGS,
    ("transcripts.t1.file", "path", Some("\"calm.jsonl\"")),
    ("analysis.c1.monitor", "transcripts", Some("\"t0\"")),
    ("analysis.c1.monitor", "neutral", Some("\"t1\"")),
    ("analysis.c1.monitor", "alarm", Some("{ on = \"happy\" }")),
    ("analysis.c1.monitor", "layers", Some("[0]")),
];
/// Each in the other's place.
const SWAPPED: &[Edit] = &[
    ("analysis.c1.monitor", "transcripts", Some("\"t1\"")),
    ("analysis.c1.monitor", "neutral", Some("\"t0\"")),
];
/// With a second set of transcripts.
const READ_AND_ANOTHER: &[Edit] =
    &[READ[0], READ[1], READ[2], ("transcripts.t1.file", "path", Some("\"calm.jsonl\""))];
const READINGS: &[&str] = &["readings/c0/*", "c0/*"];
const MONITORED: &[&str] = &["readings/c1/*", "c1/*"];

/// A key of the transcripts that are read.
const fn logged(key: &'static str, edits: &'static [Edit], changes: bool) -> Flip {
    flip(key, READ, edits, if changes { &["texts/t0"] } else { &[] })
}

pub static FLIPS: &[Flip] = &[
    logged("transcripts.<name>.file path", &[("transcripts.t0.file", "path", Some("\"more.jsonl\""))], true),
    logged("transcripts.<name>.file label", &[("transcripts.t0.file", "label", Some("\"outcome\""))], true),
    logged("transcripts.<name>.file event", &[("transcripts.t0.file", "event", Some("\"at\""))], true),
    logged("transcripts.<name>.file broken", &[("transcripts.t0.file", "broken", Some("\"error\""))], false),
    flip(
        "analysis.<name>.readings transcripts",
        READ_AND_ANOTHER,
        &[("analysis.c0.readings", "transcripts", Some("[\"t1\"]"))],
        READINGS,
    ),
    flip(
        "analysis.<name>.readings texts",
        &[("analysis.c0.readings", "texts", Some("[\"Rain.\"]"))],
        &[("analysis.c0.readings", "texts", Some("[\"Snow.\"]"))],
        &["texts/c0.texts"],
    ),
    flip(
        "analysis.<name>.readings stories",
        READ,
        &[("analysis.c0.readings", "stories", Some("true"))],
        &["c0/*"],
    ),
    flip(
        "analysis.<name>.readings layers",
        READ,
        &[("analysis.c0.readings", "layers", Some("[1]"))],
        READINGS,
    ),
    flip("analysis.<name>.readings random", READ, &[("analysis.c0.readings", "random", Some("7"))], READINGS),
    flip(
        "analysis.<name>.readings window",
        READ,
        &[("analysis.c0.readings", "window", Some("7"))],
        &["c0/*"],
    ),
    flip("analysis.<name>.readings show", READ, &[("analysis.c0.readings", "show", Some("7"))], &["c0/*"]),
    flip("analysis.<name>.monitor transcripts", WATCHED, SWAPPED, MONITORED),
    flip("analysis.<name>.monitor neutral", WATCHED, SWAPPED, MONITORED),
    flip(
        "analysis.<name>.monitor.alarm on",
        WATCHED,
        &[("analysis.c1.monitor", "alarm", Some("{ on = \"sad\" }"))],
        &["c1/*"],
    ),
    flip(
        "analysis.<name>.monitor.alarm false_alarms",
        WATCHED,
        &[("analysis.c1.monitor", "alarm", Some("{ on = \"happy\", false_alarms = 0.2 }"))],
        &["c1/*"],
    ),
    flip(
        "analysis.<name>.monitor roles",
        WATCHED,
        &[("analysis.c1.monitor", "roles", Some("\"user\""))],
        &["c1/*"],
    ),
    flip(
        "analysis.<name>.monitor window",
        WATCHED,
        &[("analysis.c1.monitor", "window", Some("7"))],
        &["c1/*"],
    ),
    flip("analysis.<name>.monitor skip", WATCHED, &[("analysis.c1.monitor", "skip", Some("7"))], &["c1/*"]),
    flip(
        "analysis.<name>.monitor classes",
        WATCHED,
        &[("analysis.c1.monitor", "classes", Some("2"))],
        &["c1/*"],
    ),
    flip(
        "analysis.<name>.monitor outcome",
        WATCHED,
        &[("analysis.c1.monitor", "outcome", Some("\"bad\""))],
        &["c1/*"],
    ),
    flip(
        "analysis.<name>.monitor layers",
        WATCHED,
        &[("analysis.c1.monitor", "layers", Some("[1]"))],
        MONITORED,
    ),
    flip(
        "analysis.<name>.monitor random",
        WATCHED,
        &[("analysis.c1.monitor", "random", Some("7"))],
        MONITORED,
    ),
    flip(
        "analysis.<name>.monitor resamples",
        WATCHED,
        &[("analysis.c1.monitor", "resamples", Some("7"))],
        &["c1/*"],
    ),
];
