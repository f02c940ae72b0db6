//! What the keys of preferences and scenarios change.

use super::*;

const LIKES: &[Edit] = &[("analysis.c2.preferences", "activities", Some("\"activities-16\""))];
/// With half of the activities steered.
const STEERED: &[Edit] = &[LIKES[0], ("analysis.c2.preferences", "steer", Some("{ random = 3 }"))];
const CHOSEN: &[Edit] = &[("analysis.c3.scenario", "set", Some("\"refusal\""))];
/// With texts.
const WRITTEN: &[Edit] = &[CHOSEN[0], ("analysis.c3.scenario", "evidence", Some("\"pattern\""))];
/// With programs that a command of the user's runs.
const RAN: &[Edit] = &[
    ("analysis.c3.scenario", "set", Some("\"impossible-code\"")),
    ("analysis.c3.scenario", "evidence", Some("\"run\"")),
    ("analysis.c3.scenario", "sandbox", Some("\"sh\"")),
];
/// With texts that are read, and told by patterns.
const PROBED: &[Edit] = &[RAN[0], RAN[2], ("analysis.c3.scenario", "evidence", Some("\"probe\""))];
const PREFERENCES: &[&str] = &["c2/*"];
const SCENARIO: &[&str] = &["c3/*"];
const ROLLOUTS: &[&str] = &["rollouts/c3/*"];
/// A set of the file's folder, with texts.
const OWN: &[Edit] = &[("analysis.c3.scenario", "set", Some("\"set.toml\"")), WRITTEN[1]];

/// With texts that a judge judges: the model that wrote them, of two judges; or one at a server.
const JUDGED: &[Edit] = &[
    CHOSEN[0],
    ("analysis.c3.scenario", "evidence", Some("\"judge\"")),
    ("analysis.c3.scenario", "judge", Some("\"j0\"")),
    ("judges.j0", "model", Some("\"self\"")),
    ("judges.j1", "model", Some("\"m0\"")),
];
const JUDGED_AT_A_SERVER: &[Edit] = &[
    JUDGED[0],
    JUDGED[1],
    ("judges.j0.openai", "url", Some("\"http://127.0.0.1:9/v1\"")),
    ("judges.j0.openai", "model", Some("\"judge\"")),
];
const SCORES: &[&str] = &["scores/c3/*"];
/// What m0 judges of its own does not change when it judges all.
const OTHERS: &[&str] = &["scores/c3/m1/*", "scores/c3/m2/*", "scores/c3/m3/*"];

macro_rules! judge {
    ($key:literal, $value:literal, $roots:expr) => {
        flip(
            concat!("judges.<name>.openai ", $key),
            JUDGED_AT_A_SERVER,
            &[("judges.j0.openai", $key, Some($value))],
            $roots,
        )
    };
}

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
    // Choices write no text. Other cells, layers or tokens of a scenario with texts are other texts.
    scenario!(CHOSEN, "samples", "9", &[]),
    scenario!(WRITTEN, "set", "\"mailbox\"", ROLLOUTS),
    scenario!(WRITTEN, "emotions", "[\"happy\"]", ROLLOUTS),
    scenario!(WRITTEN, "strength", "[0.3]", ROLLOUTS),
    scenario!(WRITTEN, "layers", "\"all\"", ROLLOUTS),
    scenario!(WRITTEN, "positions", "\"prompt\"", ROLLOUTS),
    scenario!(WRITTEN, "random", "3", ROLLOUTS),
    scenario!(WRITTEN, "bootstrap", "9", SCENARIO),
    scenario!(WRITTEN, "samples", "9", ROLLOUTS),
    scenario!(WRITTEN, "max_new_tokens", "9", ROLLOUTS),
    scenario!(WRITTEN, "temperature", "0.5", ROLLOUTS),
    scenario!(WRITTEN, "top_p", "0.5", ROLLOUTS),
    // Texts of one case, scored by other patterns: the same texts. A case that is counted otherwise, likewise.
    scenario!(OWN, "set", "\"patterns.toml\"", &["scores/c3/*"]),
    scenario!(OWN, "set", "\"control.toml\"", SCENARIO),
    // Another name has other seeds.
    scenario!(OWN, "set", "\"named.toml\"", ROLLOUTS),
    scenario!(WRITTEN, "read", "2", &["texts/c3/*"]),
    scenario!(WRITTEN, "labels", "\"labels.csv\"", SCENARIO),
    scenario!(PROBED, "told_by", "\"run\"", SCORES),
    scenario!(RAN, "sandbox", "\"cat\"", SCORES),
    scenario!(RAN, "seconds", "9", SCORES),
    scenario!(RAN, "memory", "9", SCORES),
    // Another judge writes no text anew.
    scenario!(JUDGED, "judge", "\"j1\"", OTHERS),
    flip("judges.<name> model", JUDGED, &[("judges.j0", "model", Some("\"m0\""))], OTHERS),
    flip("judges.<name> orders", JUDGED, &[("judges.j0", "orders", Some("3"))], SCORES),
    judge!("url", "\"http://127.0.0.1:10/v1\"", SCORES),
    judge!("model", "\"another\"", SCORES),
    judge!("identity", "\"judge 1.0\"", SCORES),
    judge!("api_key_env", "\"SOME_KEY\"", &[]),
    judge!("parallel", "9", &[]),
    judge!("timeout", "9", &[]),
    judge!("patience", "9", &[]),
    judge!("body", "{ enable_thinking = false }", SCORES),
];
