//! Every key of the experiment file with another value for it, and what must change by that: said here by hand, from
//! what each key means.

use std::collections::BTreeSet;

use emoflow::config::keys;
use emoflow::params::Type;

use super::draw::Edit;

/// One key with another value.
pub struct Flip {
    /// The table's path in the registry and the key: `activations wrap`.
    pub key: &'static str,
    /// What holds before and after.
    pub given: &'static [Edit],
    pub edits: &'static [Edit],
    /// Nodes that change, with all that is made of them; none: the key is in no pre-image.
    pub roots: &'static [&'static str],
}

impl Flip {
    /// The kind of neutral text that it is about.
    pub fn neutral(&self) -> Option<&'static str> {
        let kind = |header: &'static str| header.strip_prefix("neutral.")?.split('.').next();
        self.given.iter().chain(self.edits).find_map(|edit| kind(edit.0))
    }
}

/// Keys that need a hub: `tests/it/hub.rs` and `tests/it/hub/datasets.rs` show that only the files count, wherever they
/// are from, and which stories of them. A model of Ollama's is a GGUF file by another name (`src/resolve/ollama.rs`).
const ON_THE_HUB: [&str; 22] = [
    "models.<name> repo",
    "models.<name> revision",
    "models.<name> ollama",
    "models.<name> adapter_revision",
    "stories.<name>.dataset repo",
    "stories.<name>.dataset revision",
    "stories.<name>.dataset files",
    "stories.<name>.dataset labels",
    "stories.<name>.dataset empty",
    "stories.<name>.dataset limit_per_emotion",
    "dialogues.<name>.dataset kind",
    "dialogues.<name>.dataset repo",
    "dialogues.<name>.dataset revision",
    "dialogues.<name>.dataset files",
    "dialogues.<name>.dataset emotion",
    "dialogues.<name>.dataset other",
    "dialogues.<name>.dataset topic",
    "dialogues.<name>.dataset broken",
    "neutral.dataset repo",
    "neutral.dataset revision",
    "neutral.dataset files",
    "neutral.dataset empty",
];

/// Tables whose sources must be asked what they are: `tests/it/remote.rs` shows what of them counts. What they share
/// with a source at an endpoint of OpenAI's protocol is read and put into keys by the same lines.
const AT_A_SERVER: [&str; 5] = [
    "stories.<name>.ollama",
    "neutral.ollama",
    "dialogues.<name>.ollama",
    "dialogues.<name>.openai",
    "judges.<name>.ollama",
];

/// Fails where the registry has a key that no flip is about, or a flip a key that the registry has not.
pub fn every_key_is_told_of() {
    // What only holds other tables.
    let outer = |of: &Type| {
        matches!(
            of,
            Type::Table(_)
                | Type::Kind(_)
                | Type::Named(_)
                | Type::Kinds(_)
                | Type::NamedKinds(_)
                | Type::Others(_)
                | Type::Sweep
        )
    };
    let mut there: BTreeSet<String> = BTreeSet::new();
    for table in keys::tables().into_iter().filter(|table| !AT_A_SERVER.contains(&table.path.as_str())) {
        let keys = table.keys().into_iter().filter(|key| !outer(&key.of));
        there.extend(keys.map(|key| format!("{} {}", table.path, key.name).trim_start().to_string()));
    }
    let told = all().map(|flip| flip.key).chain(ON_THE_HUB).map(String::from).collect();
    let missing: Vec<_> = there.difference(&told).collect();
    assert!(missing.is_empty(), "say in tests/it/keys/flips.rs what these keys change: {missing:?}");
    let gone: Vec<_> = told.difference(&there).collect();
    assert!(gone.is_empty(), "no such keys: {gone:?}");
}

const fn flip(
    key: &'static str,
    given: &'static [Edit],
    edits: &'static [Edit],
    roots: &'static [&'static str],
) -> Flip {
    Flip { key, given, edits, roots }
}

/// A key of `transfer` that changes it, or nothing.
const fn mapped(key: &'static str, edits: &'static [Edit], changes: bool) -> Flip {
    flip(key, &[MAPPED], edits, if changes { &["b6/*"] } else { &[] })
}

const RAW: Edit = ("activations", "wrap", Some("\"raw\""));
const WRAPPED: Edit = ("activations", "wrap", Some("\"user\""));
const STEER_ALL: Edit = ("analysis.a3.steering", "layers", Some("\"all\""));
/// Texts that are put to the model as a user's turn.
const ASKED: [Edit; 2] =
    [("analysis.a4.implicit", "wrap", Some("\"user\"")), ("analysis.a5.intensity", "wrap", Some("\"user\""))];
/// Steering without anything that is drawn.
const UNDRAWN: [Edit; 6] = [
    ("analysis.a2.logit_lens", "topics", Some("0")),
    ("analysis.a3.steering", "topics", Some("0")),
    ("analysis.a3.steering", "random", Some("0")),
    ("analysis.a3.steering", "permuted", Some("0")),
    ("analysis.a3.steering", "shuffled", Some("0")),
    ("analysis.a3.steering", "resamples", Some("0")),
];
/// Without stories that a model writes.
const UNWRITTEN: [Edit; 2] = [("stories.s1.generate", "", None), ("stories.s3.generate", "", None)];
const RAIN: Edit = ("neutral.template", "passages", Some("[\"Rain.\", \"Snow.\", \"Hail.\", \"Fog.\"]"));

/// Everything that `m1` computes itself.
const BY_M1: &[&str] = &["stories/*@m1", "activations/m1/*", "a2/m1/*", "a3/m1/*", "a4/m1/*", "a5/m1/*"];
/// Those of all layers at once; steering and others that read activations have a unit for each layer.
const ANALYSES: &[&str] = &["a0/*", "a1/*", "a4/*", "a8", "a9", "a10/*"];
const ANALYSES_M1: &[&str] = &["a0/m1/*", "a1/m1/*", "a4/m1/*", ACROSS_M1[0], ACROSS_M1[1], "a10/m1/*"];
/// What is about the emotions: stories (not neutral text), and vectors, which list them.
const TOLD: &[&str] = &["stories/s*", "vectors/*"];
/// Of two sets each: those that `m1` is one of.
const ACROSS_M1: &[&str] = &["a8,model:m1", "a9,model:m1"];
/// Transfer to each model, with every key that counts for it.
const MAPPED: Edit = ("analysis.b6.transfer", "folds", Some("3"));
const MAP_STEERS: Edit = ("analysis.b6.transfer", "steer", Some("true"));
const STEERING: &[&str] = &["a3/*"];
const GEOMETRY: &[&str] = &["a6/*"];
const PROBE: &[&str] = &["a7/*"];
const NORMS: &[&str] = &["a10/*"];
const DENOISED: &[&str] = &["neutral/*", "vectors/*"];

/// A key of one table whose change changes `roots`.
macro_rules! one {
    ($table:literal, $header:literal, $key:literal, $value:literal, $roots:expr) => {
        Flip {
            key: concat!($table, " ", $key),
            given: &[],
            edits: &[($header, $key, Some($value))],
            roots: $roots,
        }
    };
}

/// Keys that both kinds of written text have.
macro_rules! writing {
    ($table:literal, $header:literal, $prompt:literal, $several:literal, $roots:expr) => {
        [
            one!($table, $header, "topics", "[\"a found key\"]", $roots),
            one!($table, $header, "per_topic", "3", $roots),
            one!($table, $header, "max_new_tokens", "64", $roots),
            one!($table, $header, "temperature", "1.5", $roots),
            one!($table, $header, "top_p", "0.5", $roots),
            one!($table, $header, "top_k", "7", $roots),
            one!($table, $header, "prompt", $prompt, $roots),
            one!($table, $header, "system", "\"Write well.\"", $roots),
            // Several texts in a reply, of which only then a line is the separator.
            Flip {
                key: concat!($table, " per_reply"),
                given: &[($header, "per_topic", Some("3")), ($header, "prompt", Some($several))],
                edits: &[($header, "per_reply", Some("2"))],
                roots: $roots,
            },
            Flip {
                key: concat!($table, " separator"),
                given: &[
                    ($header, "per_topic", Some("3")),
                    ($header, "per_reply", Some("3")),
                    ($header, "prompt", Some($several)),
                ],
                edits: &[($header, "separator", Some("\"<next>\""))],
                roots: $roots,
            },
            one!($table, $header, "separator", "\"<next>\"", &[]),
        ]
    };
}

const OWN: &[&str] = &["stories/s1@*"];
const NEUTRAL_OWN: &[&str] = &["stories/neutral@*"];

static STORY_WRITING: [Flip; 11] = writing!(
    "stories.<name>.generate",
    "stories.s1.generate",
    "\"Tell of {topic} and of someone who is {emotion}.\"",
    "\"{count} stories of {topic} and {emotion}.\"",
    OWN
);
static NEUTRAL_WRITING: [Flip; 11] = writing!(
    "neutral.generate",
    "neutral.generate",
    "\"Tell of {topic}.\"",
    "\"{count} texts on {topic}.\"",
    NEUTRAL_OWN
);

const SERVED_SOURCE: &[&str] = &["stories/s5"];
const NEUTRAL_SERVED_SOURCE: &[&str] = &["stories/neutral"];

static SERVED_WRITING: [Flip; 11] = writing!(
    "stories.<name>.openai",
    "stories.s5.openai",
    "\"Tell of {topic} and of someone who is {emotion}.\"",
    "\"{count} stories of {topic} and {emotion}.\"",
    SERVED_SOURCE
);
static NEUTRAL_SERVED_WRITING: [Flip; 11] = writing!(
    "neutral.openai",
    "neutral.openai",
    "\"Tell of {topic}.\"",
    "\"{count} texts on {topic}.\"",
    NEUTRAL_SERVED_SOURCE
);

/// Keys of a source at a server: its address and its model's name count as long as nothing else is said to stand for
/// them.
macro_rules! served {
    ($table:literal, $header:literal, $roots:expr) => {
        [
            one!($table, $header, "url", "\"http://127.0.0.1:10/v1\"", $roots),
            one!($table, $header, "model", "\"writer\"", $roots),
            one!($table, $header, "identity", "\"teller 1.0\"", $roots),
            Flip {
                key: concat!($table, " identity"),
                given: &[($header, "identity", Some("\"teller 1.0\""))],
                edits: &[($header, "identity", Some("\"teller 1.1\""))],
                roots: $roots,
            },
            Flip {
                key: concat!($table, " url"),
                given: &[($header, "identity", Some("\"teller 1.0\""))],
                edits: &[
                    ($header, "url", Some("\"http://127.0.0.1:10/v1\"")),
                    ($header, "model", Some("\"writer\"")),
                ],
                roots: &[],
            },
            one!($table, $header, "api_key_env", "\"SOME_KEY\"", &[]),
            one!($table, $header, "parallel", "9", &[]),
            one!($table, $header, "timeout", "9", &[]),
            one!($table, $header, "patience", "9", &[]),
            one!($table, $header, "body", "{ enable_thinking = false }", $roots),
        ]
    };
}

static SERVED: [Flip; 10] = served!("stories.<name>.openai", "stories.s5.openai", SERVED_SOURCE);
static NEUTRAL_SERVED: [Flip; 10] = served!("neutral.openai", "neutral.openai", NEUTRAL_SERVED_SOURCE);

mod analyses;
mod behaviour;
mod dialogues;
mod imports;
mod readings;

/// Every flip.
pub fn all() -> impl Iterator<Item = &'static Flip> {
    let written =
        STORY_WRITING.iter().chain(&NEUTRAL_WRITING).chain(&SERVED_WRITING).chain(&NEUTRAL_SERVED_WRITING);
    FLIPS
        .iter()
        .chain(&analyses::FLIPS)
        .chain(behaviour::FLIPS)
        .chain(dialogues::FLIPS)
        .chain(&imports::FLIPS)
        .chain(readings::FLIPS)
        .chain(written)
        .chain(&SERVED)
        .chain(&NEUTRAL_SERVED)
}

static FLIPS: &[Flip] = &[
    // The top.
    flip("name", &[], &[("", "name", Some("\"other\""))], &[]),
    flip("description", &[], &[("", "description", Some("\"other\""))], &[]),
    flip(
        "seed",
        &[RAIN],
        &[("", "seed", Some("9"))],
        &[
            "stories/s1@*",
            "stories/s3",
            "stories/s5",
            "a2/*",
            "a3/*",
            "a5/*",
            "a6/*",
            "a7/*",
            "a8",
            "a9",
            "a10/*",
        ],
    ),
    flip(
        "seed",
        &[RAIN, UNDRAWN[0], UNDRAWN[1], UNDRAWN[2], UNDRAWN[3], UNDRAWN[4], UNDRAWN[5]],
        &[("", "seed", Some("9"))],
        &["stories/s1@*", "stories/s3", "stories/s5", "a5/*", "a6/*", "a7/*", "a8", "a9", "a10/*"],
    ),
    // Without arithmetic in anything but f32 there is nothing to check.
    flip("check_precision", &[], &[("", "check_precision", Some("0"))], &[]),
    // Shards of one story: every source of more than one.
    flip("shard", &[RAIN], &[("", "shard", Some("1"))], &["stories/*"]),
    // A template that is rendered may ask for the date: where stories are written, and where they are wrapped.
    flip("date", &[RAW, RAIN], &[("", "date", Some("\"2025-01-02\""))], &["stories/s1@*", "stories/s3"]),
    flip(
        "date",
        &[WRAPPED, RAIN],
        &[("", "date", Some("\"2025-01-02\""))],
        &["stories/s1@*", "stories/s3", "activations/*"],
    ),
    // And where texts are put to the model as a user's turn.
    flip(
        "date",
        &[RAW, RAIN, ASKED[0], ASKED[1]],
        &[("", "date", Some("\"2025-01-02\""))],
        &["stories/s1@*", "stories/s3", "a4/*", "a5/*"],
    ),
    // Other layers: what is made of several layers, and no layer's own units.
    flip("layers", &[STEER_ALL], &[("", "layers", Some("[1]"))], ANALYSES),
    flip(
        "layers every",
        &[STEER_ALL, ("", "layers", Some("{ every = 1 }"))],
        &[("", "layers", Some("{ every = 2 }"))],
        ANALYSES,
    ),
    flip(
        "layers depth",
        &[STEER_ALL, ("", "layers", Some("{ depth = 0.9 }"))],
        &[("", "layers", Some("{ depth = 0.1 }"))],
        ANALYSES,
    ),
    flip(
        "layers from",
        &[STEER_ALL, ("", "layers", Some("{ from = 0.0, to = 0.9 }"))],
        &[("", "layers", Some("{ from = 0.5, to = 0.9 }"))],
        ANALYSES,
    ),
    flip(
        "layers to",
        &[STEER_ALL, ("", "layers", Some("{ from = 0.0, to = 0.9 }"))],
        &[("", "layers", Some("{ from = 0.0, to = 0.5 }"))],
        ANALYSES,
    ),
    flip(
        "layers embed",
        &[STEER_ALL, ("", "layers", Some("{ every = 1 }"))],
        &[("", "layers", Some("{ every = 1, embed = true }"))],
        ANALYSES,
    ),
    // Models.
    flip("models.<name> path", &[], &[("models.m1", "path", Some("\"{fixtures}/llama-untied\""))], BY_M1),
    flip(
        "models.<name> path",
        &[RAIN],
        &[("models.m0", "path", Some("\"{fixtures}/llama-untied\""))],
        &["stories/*@m0", "stories/s3", "activations/m0/*", "a2/m0/*", "a3/m0/*", "a4/m0/*", "a5/m0/*"],
    ),
    flip("models.<name> dtype", &[], &[("models.m1", "dtype", Some("\"f16\""))], BY_M1),
    flip("models.<name> compute_dtype", &[], &[("models.m1", "compute_dtype", Some("\"f16\""))], BY_M1),
    flip(
        "models.<name> adapter",
        &[("models.m1", "path", Some("\"{fixtures}/llama-untied\""))],
        &[("models.m1", "adapter", Some("\"{fixtures}/adapters/embeddings\""))],
        BY_M1,
    ),
    flip(
        "models.<name> tokenizer",
        &[],
        &[("models.m1", "tokenizer", Some("\"{fixtures}/llama-untied\""))],
        BY_M1,
    ),
    // Where the weights are does not change what is computed.
    flip("models.<name> offload", &[], &[("models.m1", "offload", Some("\"layers\""))], &[]),
    // A field that is read, and one that has no part in what is computed.
    flip(
        "models.<name> ignore_config",
        &[],
        &[("models.m1", "ignore_config", Some("[\"rms_norm_eps\"]"))],
        BY_M1,
    ),
    flip(
        "models.<name> ignore_config",
        &[],
        &[("models.m1", "ignore_config", Some("[\"initializer_range\"]"))],
        &[],
    ),
    flip("models.<name> layers", &[STEER_ALL], &[("models.m1", "layers", Some("[1]"))], ANALYSES_M1),
    flip(
        "models.<name> thinking",
        &[RAW, RAIN, UNWRITTEN[0], UNWRITTEN[1]],
        &[("models.m1", "thinking", Some("true"))],
        &[],
    ),
    flip(
        "models.<name> thinking",
        &[WRAPPED, RAIN, UNWRITTEN[0], UNWRITTEN[1]],
        &[("models.m1", "thinking", Some("true"))],
        &["activations/m1/*"],
    ),
    flip(
        "models.<name> thinking",
        &[RAW, RAIN, UNWRITTEN[0], UNWRITTEN[1], ASKED[0], ASKED[1]],
        &[("models.m1", "thinking", Some("true"))],
        &["a4/m1/*", "a5/m1/*"],
    ),
    // Emotions. One at the end would leave a template's full shards as they are.
    flip(
        "emotions preset",
        &[("analysis.a1.cosine", "pairs", None), ("stories.s4.template", "", None)],
        &[("emotions", "words", None), ("emotions", "preset", Some("\"core-9\""))],
        TOLD,
    ),
    flip("emotions words", &[], &[("emotions", "words", Some("[\"calm\", \"happy\", \"sad\"]"))], TOLD),
    // Sources.
    flip(
        "stories.<name>.template set",
        &[],
        &[("stories.s0.template", "passages", None), ("stories.s0.template", "set", Some("\"passages-10\""))],
        &["stories/s0"],
    ),
    one!(
        "stories.<name>.template",
        "stories.s0.template",
        "passages",
        "[\"He was {emotion}.\"]",
        &["stories/s0"]
    ),
    // What m0 writes for itself or for all is the same to m0.
    flip(
        "stories.<name>.generate model",
        &[],
        &[("stories.s1.generate", "model", Some("\"m0\""))],
        &["activations/m1/s1", "activations/m2/s1", "activations/m3/s1"],
    ),
    one!("stories.<name>.generate.reject", "stories.s1.generate.reject", "names_emotion", "false", OWN),
    one!("stories.<name>.generate.reject", "stories.s1.generate.reject", "min_tokens", "3", OWN),
    one!("stories.<name>.generate.reject", "stories.s1.generate.reject", "attempts", "9", OWN),
    one!("stories.<name>.generate.reject", "stories.s1.generate.reject", "refusals", "false", OWN),
    one!("stories.<name>.generate.reject", "stories.s1.generate.reject", "cut", "true", OWN),
    one!("stories.<name>.generate.reject", "stories.s1.generate.reject", "near_duplicate", "0.9", OWN),
    // A file's place does not matter, its content does.
    one!("stories.<name>.file", "stories.s2.file", "path", "\"{data}/copy.csv\"", &[]),
    one!("stories.<name>.file", "stories.s2.file", "path", "\"{data}/more.csv\"", &["stories/s2"]),
    one!("stories.<name>.file", "stories.s2.file", "labels", "{ 0 = \"calm\" }", &["stories/s2"]),
    one!("stories.<name>.file", "stories.s2.file", "empty", "\"error\"", &[]),
    one!("stories.<name>.file.columns", "stories.s2.file.columns", "emotion", "\"feeling\"", &["stories/s2"]),
    one!("stories.<name>.file.columns", "stories.s2.file.columns", "text", "\"other\"", &["stories/s2"]),
    one!("stories.<name>.file.columns", "stories.s2.file.columns", "topic", "\"kind\"", &["stories/s2"]),
    // Neutral text.
    flip(
        "neutral.template set",
        &[],
        &[("neutral.template", "passages", None), ("neutral.template", "set", Some("\"neutral-40\""))],
        &["stories/neutral"],
    ),
    flip("neutral.template passages", &[], &[RAIN], &["stories/neutral"]),
    flip(
        "neutral.generate model",
        &[],
        &[("neutral.generate", "model", Some("\"m0\""))],
        &["activations/m1/neutral", "activations/m2/neutral", "activations/m3/neutral"],
    ),
    one!("neutral.generate.reject", "neutral.generate.reject", "min_tokens", "3", NEUTRAL_OWN),
    one!("neutral.generate.reject", "neutral.generate.reject", "attempts", "9", NEUTRAL_OWN),
    one!("neutral.generate.reject", "neutral.generate.reject", "refusals", "false", NEUTRAL_OWN),
    one!("neutral.generate.reject", "neutral.generate.reject", "cut", "true", NEUTRAL_OWN),
    one!("neutral.generate.reject", "neutral.generate.reject", "near_duplicate", "0.9", NEUTRAL_OWN),
    one!("neutral.file", "neutral.file", "path", "\"{data}/copy.csv\"", &[]),
    one!("neutral.file", "neutral.file", "path", "\"{data}/more.csv\"", &["stories/neutral"]),
    one!("neutral.file", "neutral.file", "empty", "\"error\"", &[]),
    one!("neutral.file.columns", "neutral.file.columns", "text", "\"other\"", &["stories/neutral"]),
    one!("neutral.file.columns", "neutral.file.columns", "topic", "\"kind\"", &["stories/neutral"]),
    // Activations and vectors.
    one!("activations", "activations", "from_token", "3", &["activations/*"]),
    one!("activations", "activations", "wrap", "\"user\"", &["activations/*"]),
    one!("activations", "activations", "short", "\"whole\"", &["activations/*"]),
    one!("activations", "activations", "long", "\"cut\"", &["activations/*"]),
    one!("activations", "activations", "batch_tokens", "4096", &["activations/*"]),
    one!("activations", "activations", "store_dtype", "\"f16\"", &["activations/*"]),
    one!("vectors", "vectors", "center", "\"none\"", &["vectors/*"]),
    one!("vectors", "vectors", "normalize", "true", &["vectors/*"]),
    one!("vectors", "vectors", "weights", "\"topics\"", &["vectors/*"]),
    flip(
        "vectors denoise",
        &[],
        &[("vectors.denoise", "", None), ("vectors", "denoise", Some("\"none\""))],
        &["vectors/*"],
    ),
    one!("vectors.denoise", "vectors.denoise", "components", "3", DENOISED),
    one!("vectors.denoise", "vectors.denoise", "tokens", "4", &["activations/*/neutral"]),
    flip(
        "vectors.denoise variance",
        &[],
        &[("vectors.denoise", "components", None), ("vectors.denoise", "variance", Some("0.5"))],
        DENOISED,
    ),
];
