//! What the keys of preferences and scenarios change.

use super::*;

const LIKES: &[Edit] = &[("analysis.c2.preferences", "activities", Some("\"activities-16\""))];
/// With half of the activities steered.
const STEERED: &[Edit] = &[LIKES[0], ("analysis.c2.preferences", "steer", Some("{ random = 3 }"))];
const CHOSEN: &[Edit] = &[("analysis.c3.scenario", "set", Some("\"refusal\""))];
/// With texts.
const WRITTEN: &[Edit] = &[CHOSEN[0], ("analysis.c3.scenario", "evidence", Some("\"pattern\""))];
const PREFERENCES: &[&str] = &["c2/*"];
const SCENARIO: &[&str] = &["c3/*"];

macro_rules! likes {
    ($key:literal, $value:literal) => {
        flip(
            concat!("analysis.<name>.preferences ", $key),
            LIKES,
            &[("analysis.c2.preferences", $key, Some($value))],
            PREFERENCES,
        )
    };
}

/// A key of the table `steer`, which is written whole.
macro_rules! steered {
    ($key:literal, $steer:literal) => {
        flip(
            concat!("analysis.<name>.preferences.steer ", $key),
            STEERED,
            &[("analysis.c2.preferences", "steer", Some($steer))],
            PREFERENCES,
        )
    };
}

macro_rules! scenario {
    ($given:expr, $key:literal, $value:literal, $roots:expr) => {
        flip(
            concat!("analysis.<name>.scenario ", $key),
            $given,
            &[("analysis.c3.scenario", $key, Some($value))],
            $roots,
        )
    };
}

pub static FLIPS: &[Flip] = &[
    likes!("activities", "\"activities-64\""),
    likes!("question", "\"{a} (A) or {b} (B)?\""),
    likes!("answer", "\"I choose (\""),
    likes!("feeling", "\"And {activity}?\""),
    likes!("wrap", "\"raw\""),
    likes!("hard", "true"),
    likes!("layers", "\"all\""),
    likes!("bootstrap", "9"),
    likes!("permutations", "9"),
    steered!("emotions", "{ random = 3, emotions = [\"happy\"] }"),
    steered!("strength", "{ random = 3, strength = [0.2] }"),
    steered!("splits", "{ random = 3, splits = 2 }"),
    steered!("random", "{ random = 4 }"),
    scenario!(CHOSEN, "set", "\"mailbox\"", SCENARIO),
    scenario!(CHOSEN, "evidence", "\"pattern\"", SCENARIO),
    scenario!(CHOSEN, "emotions", "[\"happy\"]", SCENARIO),
    scenario!(CHOSEN, "strength", "[0.3]", SCENARIO),
    scenario!(CHOSEN, "layers", "\"all\"", SCENARIO),
    scenario!(CHOSEN, "positions", "\"prompt\"", SCENARIO),
    scenario!(CHOSEN, "random", "3", SCENARIO),
    scenario!(CHOSEN, "bootstrap", "9", SCENARIO),
    // Choices write no text, and texts draw no case.
    scenario!(WRITTEN, "bootstrap", "9", &[]),
    scenario!(CHOSEN, "samples", "9", &[]),
    scenario!(WRITTEN, "samples", "9", SCENARIO),
    scenario!(WRITTEN, "max_new_tokens", "9", SCENARIO),
    scenario!(WRITTEN, "temperature", "0.5", SCENARIO),
    scenario!(WRITTEN, "top_p", "0.5", SCENARIO),
];
