//! Every key of an experiment file, once: type, default, meaning. Reader, document and tests are loops over it.

use std::fmt::Write;

use super::presets::{self, Preset};
use crate::lm::{Dtype, LensNorm, Positions, Wrap};
use crate::stages::activations::{Short, StoreDtype};
use crate::stages::analysis::steering::Unit;
use crate::stages::vectors::Center;

/// A table and all the keys it may have.
pub struct Table {
    /// As in a header, with `<...>` for what the user names: `stories.<name>.generate`.
    pub path: &'static str,
    pub about: &'static str,
    pub keys: &'static [Key],
}

/// One key.
pub struct Key {
    pub name: &'static str,
    pub of: Type,
    pub default: Default,
    pub about: &'static str,
}

/// What a value may be.
pub enum Type {
    Text,
    /// Letters, digits, `.`, `_`, `-`.
    Name,
    Bool,
    /// An integer from `min` to `max`.
    Integer {
        min: i64,
        max: i64,
    },
    /// A finite number from `from` (or only above it) to `to`.
    Number {
        from: f64,
        above: bool,
        to: f64,
    },
    /// One of a few words.
    Choice(fn() -> Vec<&'static str>),
    /// The name of a preset.
    Preset(&'static [Preset]),
    /// The name of a preset, or a list of strings.
    PresetOrTexts(&'static [Preset]),
    Texts,
    Numbers,
    /// A list of lists of two strings.
    Pairs,
    /// One of a few words, or (where `integers`) a list of integers, or a table of these keys.
    Forms {
        words: &'static [&'static str],
        integers: bool,
        table: Option<&'static Table>,
    },
    Table(&'static Table),
    /// Tables under names of the user's.
    Named(&'static Table),
    /// Exactly one of these tables.
    Kinds(&'static [Kind]),
    /// Under names of the user's, exactly one of these tables each.
    NamedKinds(&'static [Kind]),
}

/// What holds when a key is not written.
pub enum Default {
    Required,
    /// This value, in TOML.
    Is(&'static str),
    /// Nothing, or what depends on other things: said in words.
    Said(&'static str),
}

/// A table that is chosen by its name.
pub struct Kind {
    pub name: &'static str,
    pub table: &'static Table,
    /// A kind that is not supported yet is read and checked all the same.
    pub supported: bool,
}

/// An enum whose values are words in the file.
pub trait Words: Copy + 'static {
    const WORDS: &'static [(&'static str, Self)];
}

/// The words of an enum.
pub fn words<T: Words>() -> Vec<&'static str> {
    T::WORDS.iter().map(|(word, _)| *word).collect()
}

impl Words for Dtype {
    const WORDS: &'static [(&'static str, Self)] =
        &[("f32", Dtype::F32), ("bf16", Dtype::Bf16), ("f16", Dtype::F16)];
}
impl Words for Wrap {
    const WORDS: &'static [(&'static str, Self)] =
        &[("raw", Wrap::Raw), ("user", Wrap::User), ("assistant", Wrap::Assistant)];
}
impl Words for Short {
    const WORDS: &'static [(&'static str, Self)] =
        &[("skip", Short::Skip), ("error", Short::Error), ("whole", Short::Whole)];
}
impl Words for StoreDtype {
    const WORDS: &'static [(&'static str, Self)] = &[("f32", StoreDtype::F32), ("f16", StoreDtype::F16)];
}
impl Words for Center {
    const WORDS: &'static [(&'static str, Self)] = &[("emotions", Center::Emotions), ("none", Center::None)];
}
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

use Default::{Is, Required, Said};

const fn key(name: &'static str, of: Type, default: Default, about: &'static str) -> Key {
    Key { name, of, default, about }
}

const fn at_least(min: i64) -> Type {
    Type::Integer { min, max: i64::MAX }
}

const LAYERS_TYPE: Type = Type::Forms { words: &["all"], integers: true, table: Some(&LAYERS) };

/// The whole file.
pub static ROOT: Table = Table {
    path: "",
    about: "The top of the file, before the first `[table]`.",
    keys: &[
        key(
            "name",
            Type::Name,
            Said("the file's stem"),
            "Results go to `results/<name>/`. Not part of any key: renaming computes nothing again.",
        ),
        key("description", Type::Text, Is("\"\""), "Shown at the top of the report."),
        key(
            "seed",
            at_least(0),
            Is("0"),
            "Every random draw follows from it: written stories, random directions.",
        ),
        key(
            "layers",
            LAYERS_TYPE,
            Is("{ depth = 0.667 }"),
            "Which blocks' residual streams are kept; see below.",
        ),
        key(
            "models",
            Type::Named(&MODEL),
            Required,
            "The models whose residual streams are read; at least one.",
        ),
        key("emotions", Type::Table(&EMOTIONS), Required, "The emotions; at least one."),
        key(
            "stories",
            Type::NamedKinds(STORIES),
            Required,
            "Where the texts come from; at least one source.",
        ),
        key("neutral", Type::Kinds(NEUTRAL), Said("no denoising"), "Emotionless text for denoising."),
        key(
            "activations",
            Type::Table(&ACTIVATIONS),
            Is("{}"),
            "How a story becomes one activation a layer.",
        ),
        key("vectors", Type::Table(&VECTORS), Is("{}"), "How activations become emotion vectors."),
        key("analysis", Type::NamedKinds(ANALYSES), Is("{}"), "What is computed from the vectors."),
    ],
};

static LAYERS: Table = Table {
    path: "layers",
    about: "The table forms of `layers`; exactly one of them.",
    keys: &[
        key("every", at_least(1), Said("-"), "Blocks 0, n, 2n, ..."),
        key(
            "depth",
            Type::Number { from: 0.0, above: false, to: 1.0 },
            Said("-"),
            "The one block in which this fraction of the depth falls: `floor(depth * n_layers)`, at most the last. 0.667 is block 10 of 16 and 28 of 42.",
        ),
        key(
            "from",
            Type::Number { from: 0.0, above: false, to: 1.0 },
            Said("-"),
            "With `to`: all blocks from the one at this depth ...",
        ),
        key(
            "to",
            Type::Number { from: 0.0, above: false, to: 1.0 },
            Said("-"),
            "... to the one at this depth, both included.",
        ),
    ],
};

static MODEL: Table = Table {
    path: "models.<name>",
    about: "One table a model; several of them are a sweep. Exactly one of `repo` and `path`.",
    keys: &[
        key("repo", Type::Text, Said("-"), "A repository on the hub, `owner/name`."),
        key("path", Type::Text, Said("-"), "A folder in Hugging Face format, relative to the project."),
        key(
            "revision",
            Type::Text,
            Said("`\"main\"`, with `repo`"),
            "Branch, tag or commit of `repo`; resolved to a commit, which the run records.",
        ),
        key(
            "dtype",
            Type::Choice(words::<Dtype>),
            Said("the checkpoint's own"),
            "The type of weights and arithmetic.",
        ),
        key("layers", LAYERS_TYPE, Said("the experiment's `layers`"), "Instead of the experiment's."),
    ],
};

static EMOTIONS: Table = Table {
    path: "emotions",
    about: "A preset, words of your own, or both: first the preset's, then yours.",
    keys: &[
        key("preset", Type::Preset(presets::EMOTIONS), Said("-"), "A list that ships with emoflow."),
        key(
            "words",
            Type::Texts,
            Said("-"),
            "Emotions by name: letters, with single spaces, hyphens or apostrophes inside.",
        ),
    ],
};

/// The kinds of story sources.
pub static STORIES: &[Kind] = &[
    Kind { name: "template", table: &TEMPLATE, supported: true },
    Kind { name: "generate", table: &GENERATE, supported: true },
    Kind { name: "file", table: &FILE, supported: true },
    Kind { name: "ollama", table: &OLLAMA, supported: false },
    Kind { name: "openai", table: &OPENAI, supported: false },
    Kind { name: "dataset", table: &DATASET, supported: false },
];

/// The kinds of neutral text.
pub static NEUTRAL: &[Kind] = &[
    Kind { name: "template", table: &NEUTRAL_TEMPLATE, supported: true },
    Kind { name: "generate", table: &NEUTRAL_GENERATE, supported: true },
    Kind { name: "file", table: &NEUTRAL_FILE, supported: true },
    Kind { name: "ollama", table: &NEUTRAL_OLLAMA, supported: false },
    Kind { name: "openai", table: &NEUTRAL_OPENAI, supported: false },
    Kind { name: "dataset", table: &NEUTRAL_DATASET, supported: false },
];

static TEMPLATE: Table = Table {
    path: "stories.<name>.template",
    about: "Fixed passages, one story for each passage and emotion. Exactly one of `set` and `passages`.",
    keys: &[
        key("set", Type::Preset(presets::PASSAGES), Said("-"), "Passages that ship with emoflow."),
        key(
            "passages",
            Type::Texts,
            Said("-"),
            "Passages of your own; `{emotion}` in each becomes the word.",
        ),
    ],
};

static NEUTRAL_TEMPLATE: Table = Table {
    path: "neutral.template",
    about: "Fixed texts, each taken once.",
    keys: &[
        key(
            "set",
            Type::Preset(presets::NEUTRAL),
            Said("`\"neutral-40\"`, without `passages`"),
            "Texts that ship with emoflow.",
        ),
        key("passages", Type::Texts, Said("-"), "Texts of your own, instead of `set`."),
    ],
};

const TOPICS: Key = key(
    "topics",
    Type::PresetOrTexts(presets::TOPICS),
    Is("\"everyday-100\""),
    "What the texts are about: a preset or a list. `{topic}` in the prompt becomes one of them.",
);
const PER_TOPIC: Key = key("per_topic", at_least(1), Is("12"), "Stories for each emotion and topic.");
const NEUTRAL_PER_TOPIC: Key = key("per_topic", at_least(1), Is("1"), "Texts for each topic.");
const MAX_NEW_TOKENS: Key = key("max_new_tokens", at_least(1), Is("256"), "A text ends here at the latest.");
const TEMPERATURE: Key = key(
    "temperature",
    Type::Number { from: 0.0, above: false, to: 100.0 },
    Is("1.0"),
    "Of sampling; 0 always takes the likeliest token.",
);
const TOP_P: Key = key(
    "top_p",
    Type::Number { from: 0.0, above: true, to: 1.0 },
    Is("0.95"),
    "Samples among the likeliest tokens that together have this probability.",
);
const TOP_K: Key =
    key("top_k", at_least(0), Is("0"), "Samples among this many likeliest tokens; 0: no bound.");
const PROMPT: Key = key(
    "prompt",
    Type::Text,
    Is("\"Write a short story about {topic} whose main character feels {emotion}.\""),
    "What the writer is asked, with `{emotion}` and `{topic}`; put before it through its chat template where it has one.",
);
const NEUTRAL_PROMPT: Key = key(
    "prompt",
    Type::Text,
    Is("\"Describe {topic} in a few plain sentences, without any feeling.\""),
    "What the writer is asked, with `{topic}`.",
);
const SYSTEM: Key = key("system", Type::Text, Is("\"\""), "The system message, as it stands; empty: none.");
const REJECT_KEY: Key =
    key("reject", Type::Table(&REJECT), Is("{}"), "Which stories are thrown away and written again.");
const NEUTRAL_REJECT_KEY: Key =
    key("reject", Type::Table(&NEUTRAL_REJECT), Is("{}"), "Which texts are thrown away and written again.");
const WRITER: Key = key(
    "model",
    Type::Text,
    Is("\"self\""),
    "Who writes: `\"self\"` (each model its own), or the name of one of `[models]` for all.",
);
const OLLAMA_URL: Key =
    key("url", Type::Text, Is("\"http://127.0.0.1:11434\""), "Where the Ollama server listens.");
const OPENAI_URL: Key = key("url", Type::Text, Required, "The endpoint, up to and with `/v1`.");
const SERVED_MODEL: Key = key("model", Type::Text, Required, "The model's name at that server.");
const API_KEY_ENV: Key =
    key("api_key_env", Type::Text, Said("no key is sent"), "The environment variable that holds the key.");

static GENERATE: Table = Table {
    path: "stories.<name>.generate",
    about: "Stories written by a model of this experiment: `per_topic` for each emotion and topic.",
    keys: &[WRITER, TOPICS, PER_TOPIC, MAX_NEW_TOKENS, TEMPERATURE, TOP_P, TOP_K, PROMPT, SYSTEM, REJECT_KEY],
};

static NEUTRAL_GENERATE: Table = Table {
    path: "neutral.generate",
    about: "Neutral texts written by a model of this experiment.",
    keys: &[
        WRITER,
        TOPICS,
        NEUTRAL_PER_TOPIC,
        MAX_NEW_TOKENS,
        TEMPERATURE,
        TOP_P,
        TOP_K,
        NEUTRAL_PROMPT,
        SYSTEM,
        NEUTRAL_REJECT_KEY,
    ],
};

const MIN_TOKENS: Key = key("min_tokens", at_least(0), Is("0"), "Those with fewer tokens.");
const ATTEMPTS: Key = key(
    "attempts",
    Type::Integer { min: 1, max: 1000 },
    Is("4"),
    "How often one text may be tried; the last try counts only if it passes.",
);

static REJECT: Table = Table {
    path: "stories.<name>.generate.reject",
    about: "What a written story must not be.",
    keys: &[
        key(
            "names_emotion",
            Type::Bool,
            Is("true"),
            "Those that contain the emotion's word, or a word that starts with its stem.",
        ),
        MIN_TOKENS,
        ATTEMPTS,
    ],
};

static NEUTRAL_REJECT: Table = Table {
    path: "neutral.generate.reject",
    about: "What a written neutral text must not be.",
    keys: &[MIN_TOKENS, ATTEMPTS],
};

static OLLAMA: Table = Table {
    path: "stories.<name>.ollama",
    about: "Stories written by a model on a running Ollama server.",
    keys: &[
        OLLAMA_URL,
        SERVED_MODEL,
        TOPICS,
        PER_TOPIC,
        MAX_NEW_TOKENS,
        TEMPERATURE,
        TOP_P,
        TOP_K,
        PROMPT,
        SYSTEM,
        REJECT_KEY,
    ],
};

static NEUTRAL_OLLAMA: Table = Table {
    path: "neutral.ollama",
    about: "Neutral texts written by a model on a running Ollama server.",
    keys: &[
        OLLAMA_URL,
        SERVED_MODEL,
        TOPICS,
        NEUTRAL_PER_TOPIC,
        MAX_NEW_TOKENS,
        TEMPERATURE,
        TOP_P,
        TOP_K,
        NEUTRAL_PROMPT,
        SYSTEM,
        NEUTRAL_REJECT_KEY,
    ],
};

static OPENAI: Table = Table {
    path: "stories.<name>.openai",
    about: "Stories written at any OpenAI-compatible endpoint.",
    keys: &[
        OPENAI_URL,
        SERVED_MODEL,
        API_KEY_ENV,
        TOPICS,
        PER_TOPIC,
        MAX_NEW_TOKENS,
        TEMPERATURE,
        TOP_P,
        TOP_K,
        PROMPT,
        SYSTEM,
        REJECT_KEY,
    ],
};

static NEUTRAL_OPENAI: Table = Table {
    path: "neutral.openai",
    about: "Neutral texts written at any OpenAI-compatible endpoint.",
    keys: &[
        OPENAI_URL,
        SERVED_MODEL,
        API_KEY_ENV,
        TOPICS,
        NEUTRAL_PER_TOPIC,
        MAX_NEW_TOKENS,
        TEMPERATURE,
        TOP_P,
        TOP_K,
        NEUTRAL_PROMPT,
        SYSTEM,
        NEUTRAL_REJECT_KEY,
    ],
};

const PATH: Key =
    key("path", Type::Text, Required, "A `.parquet`, `.jsonl` or `.csv` file, relative to the project.");
const REPO: Key = key("repo", Type::Text, Required, "A dataset repository on the hub, `owner/name`.");
const DATASET_REVISION: Key = key("revision", Type::Text, Is("\"main\""), "Branch, tag or commit.");
const FILES: Key = key("files", Type::Text, Required, "Which of its files, as a glob.");
const COLUMNS_KEY: Key = key("columns", Type::Table(&COLUMNS), Is("{}"), "Which column holds what.");
const NEUTRAL_COLUMNS_KEY: Key =
    key("columns", Type::Table(&NEUTRAL_COLUMNS), Is("{}"), "Which column holds what.");
const TEXT_COLUMN: Key = key("text", Type::Text, Is("\"text\""), "The column with the text.");
const TOPIC_COLUMN: Key = key("topic", Type::Text, Said("no topics"), "The column with the topic.");

static FILE: Table = Table {
    path: "stories.<name>.file",
    about: "Stories from a file. Those of other emotions than the experiment's are left out.",
    keys: &[PATH, COLUMNS_KEY],
};

static NEUTRAL_FILE: Table =
    Table { path: "neutral.file", about: "Neutral texts from a file.", keys: &[PATH, NEUTRAL_COLUMNS_KEY] };

static COLUMNS: Table = Table {
    path: "stories.<name>.file.columns",
    about: "Which column of the file holds what.",
    keys: &[
        key("emotion", Type::Text, Is("\"emotion\""), "The column with the emotion."),
        TEXT_COLUMN,
        TOPIC_COLUMN,
    ],
};

static NEUTRAL_COLUMNS: Table = Table {
    path: "neutral.file.columns",
    about: "Which column of the file holds what.",
    keys: &[TEXT_COLUMN, TOPIC_COLUMN],
};

static DATASET: Table = Table {
    path: "stories.<name>.dataset",
    about: "Stories from a dataset repository on the hub.",
    keys: &[
        REPO,
        DATASET_REVISION,
        FILES,
        COLUMNS_KEY,
        key("limit_per_emotion", at_least(1), Said("all"), "At most so many stories of each emotion."),
    ],
};

static NEUTRAL_DATASET: Table = Table {
    path: "neutral.dataset",
    about: "Neutral texts from a dataset repository on the hub.",
    keys: &[REPO, DATASET_REVISION, FILES, NEUTRAL_COLUMNS_KEY],
};

static ACTIVATIONS: Table = Table {
    path: "activations",
    about: "How a story becomes one activation a layer: the mean of the residual stream over its tokens.",
    keys: &[
        key(
            "from_token",
            at_least(0),
            Is("50"),
            "Pool over the story's own tokens from this one on, counted from 0. Padding, BOS and template tokens never count.",
        ),
        key(
            "wrap",
            Type::Choice(words::<Wrap>),
            Is("\"raw\""),
            "As it stands (`raw`), or as a turn inside the model's chat template (`user`, `assistant`).",
        ),
        key(
            "short",
            Type::Choice(words::<Short>),
            Is("\"skip\""),
            "A story with no token at `from_token` is left out and counted (`skip`), an `error`, or pooled over all of its tokens (`whole`).",
        ),
        key("batch_tokens", at_least(1), Is("8192"), "At most so many padded tokens in a batch."),
        key(
            "store_dtype",
            Type::Choice(words::<StoreDtype>),
            Is("\"f32\""),
            "The type that activations are stored in.",
        ),
    ],
};

static VECTORS: Table = Table {
    path: "vectors",
    about: "How activations become emotion vectors.",
    keys: &[
        key(
            "center",
            Type::Choice(words::<Center>),
            Is("\"emotions\""),
            "What is subtracted from an emotion's mean: the mean of the emotions' means (`emotions`), or nothing (`none`).",
        ),
        key(
            "denoise",
            Type::Forms { words: &["none"], integers: false, table: Some(&DENOISE) },
            Said("`{ components = 3 }` with `[neutral]`, else `\"none\"`"),
            "Which principal components of the neutral activations are projected out.",
        ),
        key("normalize", Type::Bool, Is("false"), "Scale every vector to length 1."),
    ],
};

static DENOISE: Table = Table {
    path: "vectors.denoise",
    about: "The table forms of `denoise`; exactly one of them.",
    keys: &[
        key("components", at_least(1), Said("-"), "The leading so many."),
        key(
            "variance",
            Type::Number { from: 0.0, above: true, to: 1.0 },
            Said("-"),
            "The fewest that explain at least this fraction of the variance.",
        ),
    ],
};

/// The kinds of analyses.
pub static ANALYSES: &[Kind] = &[
    Kind { name: "pca", table: &PCA, supported: true },
    Kind { name: "cosine", table: &COSINE, supported: true },
    Kind { name: "logit_lens", table: &LOGIT_LENS, supported: true },
    Kind { name: "steering", table: &STEERING, supported: true },
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

impl Table {
    /// A key by its name.
    pub fn key(&self, name: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// This table in Markdown: what it is for, and its keys.
    pub fn markdown(&self) -> String {
        let header = if self.path.is_empty() { String::new() } else { format!("`[{}]`: ", self.path) };
        let mut text =
            format!("\n{header}{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n", self.about);
        for key in self.keys {
            let default = match key.default {
                Required => "required".to_string(),
                Is(value) => format!("`{value}`"),
                Said(said) => said.to_string(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "| `{}` | {} | {default} | {} |",
                key.name,
                key.of,
                key.about.replace('|', "\\|")
            );
        }
        text.push('\n');
        text
    }

    /// The tables right below this one.
    fn inner(&self) -> Vec<&'static Table> {
        let tables = |of: &Type| match of {
            Type::Table(table) | Type::Named(table) | Type::Forms { table: Some(table), .. } => vec![*table],
            Type::Kinds(kinds) | Type::NamedKinds(kinds) => kinds.iter().map(|kind| kind.table).collect(),
            _ => Vec::new(),
        };
        self.keys.iter().flat_map(|key| tables(&key.of)).collect()
    }
}

/// Every table there is, each once, in the order of the file.
pub fn tables() -> Vec<&'static Table> {
    fn add(table: &'static Table, all: &mut Vec<&'static Table>) {
        if all.iter().all(|other| other.path != table.path) {
            all.push(table);
            table.inner().into_iter().for_each(|inner| add(inner, all));
        }
    }
    let mut all = Vec::new();
    add(&ROOT, &mut all);
    all
}

/// The type in words, for a table of the document and for messages.
impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let codes =
            |words: &[&str]| words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
        let names = |presets: &[Preset]| codes(&presets.iter().map(|preset| preset.name).collect::<Vec<_>>());
        match self {
            Type::Text => write!(f, "string"),
            Type::Name => write!(f, "name"),
            Type::Bool => write!(f, "`true` or `false`"),
            Type::Integer { min, max: i64::MAX } => write!(f, "integer, at least {min}"),
            Type::Integer { min, max } => write!(f, "integer, {min} to {max}"),
            Type::Number { from, above: true, to } => write!(f, "number, above {from}, at most {to}"),
            Type::Number { from, above: false, to } => write!(f, "number, {from} to {to}"),
            Type::Choice(words) => write!(f, "one of {}", codes(&words())),
            Type::Preset(presets) => write!(f, "one of {}", names(presets)),
            Type::PresetOrTexts(presets) => write!(f, "{}, or list of strings", names(presets)),
            Type::Texts => write!(f, "list of strings"),
            Type::Numbers => write!(f, "list of numbers"),
            Type::Pairs => write!(f, "list of pairs of strings"),
            Type::Forms { words, integers, table } => {
                write!(f, "{}", codes(words))?;
                if *integers {
                    write!(f, ", list of integers")?;
                }
                if let Some(table) = table {
                    write!(f, ", or table")?;
                    let keys: Vec<_> = table.keys.iter().map(|key| format!("`{}`", key.name)).collect();
                    write!(f, " ({})", keys.join(", "))?;
                }
                Ok(())
            }
            Type::Table(_) => write!(f, "table"),
            Type::Named(_) => write!(f, "tables by name"),
            Type::Kinds(kinds) | Type::NamedKinds(kinds) => {
                let kinds: Vec<_> = kinds.iter().map(|kind| format!("`{}`", kind.name)).collect();
                let by_name =
                    if matches!(self, Type::NamedKinds(_)) { "tables by name, each" } else { "table," };
                write!(f, "{by_name} one of {}", kinds.join(", "))
            }
        }
    }
}
