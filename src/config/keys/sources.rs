//! The list of keys of story sources and of neutral text. Knows nothing of how they are read.

use super::{at_least, key};
use crate::params::Default::{Is, Required, Said};
use crate::params::{Key, Kind, Table, Type, Value, presets};
use crate::stages::stories::file::Empty;

/// The kinds of story sources.
pub static STORIES: &[Kind] = &[
    Kind { name: "template", table: &TEMPLATE },
    Kind { name: "generate", table: &GENERATE },
    Kind { name: "file", table: &FILE },
    Kind { name: "ollama", table: &OLLAMA },
    Kind { name: "openai", table: &OPENAI },
    Kind { name: "dataset", table: &DATASET },
];

/// The kinds of neutral text.
pub static NEUTRAL: &[Kind] = &[
    Kind { name: "template", table: &NEUTRAL_TEMPLATE },
    Kind { name: "generate", table: &NEUTRAL_GENERATE },
    Kind { name: "file", table: &NEUTRAL_FILE },
    Kind { name: "ollama", table: &NEUTRAL_OLLAMA },
    Kind { name: "openai", table: &NEUTRAL_OPENAI },
    Kind { name: "dataset", table: &NEUTRAL_DATASET },
];

static TEMPLATE: Table = Table {
    about: "Fixed passages, one story for each passage and emotion. Exactly one of `set` and `passages`.",
    abouts: &[],
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
    about: "Fixed texts, each taken once.",
    abouts: &[],
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
const MAX_NEW_TOKENS: Key =
    key("max_new_tokens", at_least(1), Is("256"), "A reply ends here at the latest, with all that it holds.");
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
    "What the writer is asked, with `{emotion}` and `{topic}`; put before it through its chat template where it has one. `{person}` becomes \"first person\" and \"third person\" in turn, `{count}` how many stories the request is for.",
);
const NEUTRAL_PROMPT: Key = key(
    "prompt",
    Type::Text,
    Is("\"Describe {topic} in a few plain sentences, without any feeling.\""),
    "What the writer is asked, with `{topic}`; also `{person}` and `{count}`, as in stories.",
);
const SYSTEM: Key = key(
    "system",
    Type::Text,
    Is("\"\""),
    "The system message, as it stands; empty: none. A chat template without a system turn (Gemma 2) gets it at the beginning of the user's turn, with a blank line after it.",
);
const PER_REPLY: Key = key(
    "per_reply",
    at_least(1),
    Is("1"),
    "At most so many texts of one emotion and topic are asked for at once, in one reply; more than one needs `{count}` in the prompt, which must also ask for the separator. What a reply lacks is asked for again.",
);
const SEPARATOR: Key = key(
    "separator",
    Type::Text,
    Is("\"---\""),
    "With `per_reply` above 1: the line that stands between two texts of a reply. Where it does not occur, rules of Markdown and headings (\"Story 2:\") count.",
);
const REJECT_KEY: Key =
    key("reject", Type::Table(&REJECT), Is("{}"), "Which stories are rejected and written again.");
const NEUTRAL_REJECT_KEY: Key =
    key("reject", Type::Table(&NEUTRAL_REJECT), Is("{}"), "Which texts are rejected and written again.");
const WRITER: Key = key(
    "model",
    Type::Text,
    Is("\"self\""),
    "Who writes: `\"self\"` (each model its own), or the name of one of `[models]` for all.",
);
const OLLAMA_URL: Key =
    key("url", Type::Text, Is("\"http://127.0.0.1:11434\""), "Where the Ollama server listens.");
const OPENAI_URL: Key = key(
    "url",
    Type::Text,
    Required,
    "The endpoint, up to and with `/v1`: `/chat/completions` is asked below it.",
);
const SERVED_MODEL: Key = key("model", Type::Text, Required, "The model's name at that server.");
const API_KEY_ENV: Key =
    key("api_key_env", Type::Text, Said("no key is sent"), "The environment variable that holds the key.");
const PARALLEL: Key =
    key("parallel", Type::Integer { min: 1, max: 256 }, Is("4"), "Requests at a time. Not part of any key.");
const TIMEOUT: Key = key(
    "timeout",
    Type::Integer { min: 1, max: 86_400 },
    Is("300"),
    "Seconds that one reply may take before it is asked for again. Not part of any key.",
);
const PATIENCE: Key = key(
    "patience",
    Type::Integer { min: 0, max: 604_800 },
    Is("600"),
    "Seconds for which it is waited out that the server is busy or still loading (status 429, 503) or that connections to it break; what fails otherwise is asked for six times. Not part of any key.",
);
const BODY: Key = key(
    "body",
    Type::Fields,
    Is("{}"),
    "Further fields of each request's body, as the server wants them: `{ enable_thinking = false }`. Not for what has a key of its own, and not for secrets.",
);
const OPENAI_TOP_P: Key = key(
    "top_p",
    Type::Number { from: 0.0, above: true, to: 1.0 },
    Is("1.0"),
    "Samples among the likeliest tokens that together have this probability; 1 is no bound and is not sent, as some servers take either this or `temperature`.",
);
const IDENTITY: Key = key(
    "identity",
    Type::Text,
    Said("`url` and `model`"),
    "What stands for the model in keys, as an endpoint tells no digest: with it, the same model at another address makes no story stale. Change it when the model changes.",
);

static GENERATE: Table = Table {
    about: "Stories written by a model of this experiment: `per_topic` for each emotion and topic.",
    abouts: &[],
    keys: &[
        WRITER,
        TOPICS,
        PER_TOPIC,
        MAX_NEW_TOKENS,
        TEMPERATURE,
        TOP_P,
        TOP_K,
        PROMPT,
        SYSTEM,
        PER_REPLY,
        SEPARATOR,
        REJECT_KEY,
    ],
};

static NEUTRAL_GENERATE: Table = Table {
    about: "Neutral texts written by a model of this experiment.",
    abouts: &[],
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
        PER_REPLY,
        SEPARATOR,
        NEUTRAL_REJECT_KEY,
    ],
};

const MIN_TOKENS: Key = key(
    "min_tokens",
    at_least(0),
    Is("0"),
    "Those with fewer tokens; at a server, whose tokenizer is not known, with fewer words.",
);
const ATTEMPTS: Key = key(
    "attempts",
    Type::Integer { min: 1, max: 1000 },
    Is("4"),
    "How often one text may be tried; the last try counts only if it passes.",
);

const REFUSALS: Key = key(
    "refusals",
    Type::Bool,
    Is("true"),
    "Those that begin by declining (\"I cannot write this story\", \"As an AI language model\"); English only.",
);
const CUT: Key = key(
    "cut",
    Type::Bool,
    Is("false"),
    "Those that end where `max_new_tokens` ends them, instead of by themselves. The last of several in a reply is always rejected then.",
);
const NEAR_DUPLICATE: Key = key(
    "near_duplicate",
    Type::Number { from: 0.0, above: true, to: 1.0 },
    Said("not looked at"),
    "Those at least so like an earlier kept text of the same shard, which is what is written and stored together: the Jaccard similarity of their sets of word 3-grams (0.7 is a near copy). Texts of other shards are not looked at; the report counts over the whole source.",
);

static REJECT: Table = Table {
    about: "What a written story must not be.",
    abouts: &[],
    keys: &[
        key(
            "names_emotion",
            Type::Bool,
            Is("true"),
            "Those that contain the emotion's word, or a word that starts with its stem.",
        ),
        MIN_TOKENS,
        REFUSALS,
        CUT,
        NEAR_DUPLICATE,
        ATTEMPTS,
    ],
};

static NEUTRAL_REJECT: Table = Table {
    about: "What a written neutral text must not be.",
    abouts: &[],
    keys: &[MIN_TOKENS, REFUSALS, CUT, NEAR_DUPLICATE, ATTEMPTS],
};

static OLLAMA: Table = Table {
    about: "Stories written by a model on a running Ollama server.",
    abouts: &[],
    keys: &[
        OLLAMA_URL,
        SERVED_MODEL,
        PARALLEL,
        TIMEOUT,
        PATIENCE,
        BODY,
        TOPICS,
        PER_TOPIC,
        MAX_NEW_TOKENS,
        TEMPERATURE,
        TOP_P,
        TOP_K,
        PROMPT,
        SYSTEM,
        PER_REPLY,
        SEPARATOR,
        REJECT_KEY,
    ],
};

static NEUTRAL_OLLAMA: Table = Table {
    about: "Neutral texts written by a model on a running Ollama server.",
    abouts: &[],
    keys: &[
        OLLAMA_URL,
        SERVED_MODEL,
        PARALLEL,
        TIMEOUT,
        PATIENCE,
        BODY,
        TOPICS,
        NEUTRAL_PER_TOPIC,
        MAX_NEW_TOKENS,
        TEMPERATURE,
        TOP_P,
        TOP_K,
        NEUTRAL_PROMPT,
        SYSTEM,
        PER_REPLY,
        SEPARATOR,
        NEUTRAL_REJECT_KEY,
    ],
};

static OPENAI: Table = Table {
    about: "Stories written at any OpenAI-compatible endpoint.",
    abouts: &[],
    keys: &[
        OPENAI_URL,
        SERVED_MODEL,
        IDENTITY,
        API_KEY_ENV,
        PARALLEL,
        TIMEOUT,
        PATIENCE,
        BODY,
        TOPICS,
        PER_TOPIC,
        MAX_NEW_TOKENS,
        TEMPERATURE,
        OPENAI_TOP_P,
        TOP_K,
        PROMPT,
        SYSTEM,
        PER_REPLY,
        SEPARATOR,
        REJECT_KEY,
    ],
};

static NEUTRAL_OPENAI: Table = Table {
    about: "Neutral texts written at any OpenAI-compatible endpoint.",
    abouts: &[],
    keys: &[
        OPENAI_URL,
        SERVED_MODEL,
        IDENTITY,
        API_KEY_ENV,
        PARALLEL,
        TIMEOUT,
        PATIENCE,
        BODY,
        TOPICS,
        NEUTRAL_PER_TOPIC,
        MAX_NEW_TOKENS,
        TEMPERATURE,
        OPENAI_TOP_P,
        TOP_K,
        NEUTRAL_PROMPT,
        SYSTEM,
        PER_REPLY,
        SEPARATOR,
        NEUTRAL_REJECT_KEY,
    ],
};

const PATH: Key = key(
    "path",
    Type::Text,
    Required,
    "A file, or several as a glob (`stories/*.jsonl`, read in the order of their names), relative to the project: `.parquet`, `.jsonl`, `.json`, `.csv` (also with semicolons or tabs), `.tsv` or `.txt` (a text a line), each also `.gz` or `.zst`; UTF-8, or UTF-16 with its mark. Where rows have no emotion of their own, the file's name is it (`stories/sad.txt`).",
);
const REPO: Key = key("repo", Type::Text, Required, "A dataset repository on the hub, `owner/name`.");
const DATASET_REVISION: Key = key(
    "revision",
    Type::Text,
    Is("\"main\""),
    "Branch, tag or commit; resolved to a commit, which the run records.",
);
const FILES: Key = key(
    "files",
    Type::Text,
    Required,
    "Which of its files, as a glob; in the formats of `stories.<name>.file`.",
);
const LABELS: Key = key(
    "labels",
    Type::TextByName,
    Is("{}"),
    "Which emotion a label of the file means, where it is not its name: `{ 0 = \"sad\", 1 = \"happy\" }`. Names that Hugging Face's `datasets` keeps in Parquet files (`ClassLabel`) need none; case, spaces, hyphens and underscores do not matter.",
);
const EMPTY: Key = key(
    "empty",
    <Empty as Value>::OF,
    Is("\"skip\""),
    "A row without a text: skipped and counted, or an error. Not part of any key.",
);
const COLUMNS_KEY: Key = key("columns", Type::Table(&COLUMNS), Is("{}"), "Which column holds what.");
const NEUTRAL_COLUMNS_KEY: Key =
    key("columns", Type::Table(&NEUTRAL_COLUMNS), Is("{}"), "Which column holds what.");
const TEXT_COLUMN: Key =
    key("text", Type::Text, Is("\"text\""), "The column with the text, or with a list of texts.");
const TOPIC_COLUMN: Key = key("topic", Type::Text, Said("no topics"), "The column with the topic.");

static FILE: Table = Table {
    about: "Stories from files. Rows of other emotions than the experiment's, and those with several, are skipped; an emotion without any is an error.",
    abouts: &[],
    keys: &[PATH, COLUMNS_KEY, LABELS, EMPTY],
};

static NEUTRAL_FILE: Table =
    Table { about: "Neutral texts from files.", abouts: &[], keys: &[PATH, NEUTRAL_COLUMNS_KEY, EMPTY] };

static COLUMNS: Table = Table {
    about: "Which column of the file holds what.",
    abouts: &[],
    keys: &[
        key(
            "emotion",
            Type::Text,
            Is("\"emotion\""),
            "The column with the emotion, or with its number (see `labels`).",
        ),
        TEXT_COLUMN,
        TOPIC_COLUMN,
    ],
};

static NEUTRAL_COLUMNS: Table =
    Table { about: "Which column of the file holds what.", abouts: &[], keys: &[TEXT_COLUMN, TOPIC_COLUMN] };

static DATASET: Table = Table {
    about: "Stories from a dataset repository on the hub.",
    abouts: &[],
    keys: &[
        REPO,
        DATASET_REVISION,
        FILES,
        COLUMNS_KEY,
        LABELS,
        EMPTY,
        key("limit_per_emotion", at_least(1), Said("all"), "The first so many stories of each emotion."),
    ],
};

static NEUTRAL_DATASET: Table = Table {
    about: "Neutral texts from a dataset repository on the hub.",
    abouts: &[],
    keys: &[REPO, DATASET_REVISION, FILES, NEUTRAL_COLUMNS_KEY, EMPTY],
};
