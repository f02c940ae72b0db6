//! The list of keys, but for those of story sources and analyses. Knows nothing of how they are read.

use super::analyses::ANALYSES;
use super::criteria::CRITERION;
use super::sources::{NEUTRAL, STORIES};
use super::{at_least, key};
use crate::config::Offload;
use crate::lm::Dtype;
use crate::params::Default::{Is, Required, Said};
use crate::params::{Params, Table, Type, Value, Words, presets};
use crate::stages::stories::file::Empty;
use crate::stages::{activations, vectors};

impl Words for Offload {
    const WORDS: &'static [(&'static str, Self)] = &[("none", Offload::None), ("layers", Offload::Layers)];
}
impl Words for Empty {
    const WORDS: &'static [(&'static str, Self)] = &[("skip", Empty::Skip), ("error", Empty::Error)];
}
const LAYERS_TYPE: Type = Type::Forms { words: &["all"], layers: true, table: Some(&LAYERS) };

/// The whole file.
pub static ROOT: Table = Table {
    about: "The top of the file, before the first `[table]`.",
    abouts: &[],
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
            "Every random draw follows from it: written stories, random directions, shuffled orders.",
        ),
        key(
            "shard",
            at_least(1),
            Is("256"),
            "Stories that are written, read and stored together. Part of the keys of stories: another number computes everything again.",
        ),
        key(
            "date",
            Type::Text,
            Is("\"2024-07-26\""),
            "The day, `YYYY-MM-DD`, that chat templates see where they ask for the date (`strftime_now`): results do not change with the clock.",
        ),
        key(
            "layers",
            LAYERS_TYPE,
            Is("{ depth = 0.667 }"),
            "Which layers of the residual stream are kept; see below.",
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
            Type::NamedKinds(|| STORIES.to_vec()),
            Required,
            "Where the texts come from; at least one source.",
        ),
        key(
            "neutral",
            Type::Kinds(|| NEUTRAL.to_vec()),
            Said("no denoising"),
            "Emotionless text for denoising.",
        ),
        key(
            "activations",
            Type::Table(activations::Params::TABLE),
            Is("{}"),
            "How a story becomes one activation a layer.",
        ),
        key(
            "vectors",
            Type::Table(vectors::Params::TABLE),
            Is("{}"),
            "How activations become emotion vectors.",
        ),
        key(
            "analysis",
            Type::NamedKinds(|| ANALYSES.to_vec()),
            Is("{}"),
            "What is computed from the vectors.",
        ),
        key("criteria", Type::Named(&CRITERION), Is("{}"), "What will be taken for a finding."),
        key(
            "sweep",
            Type::Sweep,
            Said("no variants"),
            "Keys with several values each: every combination is a variant of the experiment; see below.",
        ),
    ],
};

static LAYERS: Table = Table {
    about: "The table forms of `layers`; exactly one of them, and `embed` where it is wanted.",
    abouts: &[],
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
        key(
            "embed",
            Type::Bool,
            Is("false"),
            "With any of the other forms: the layer `embed` too, the token embeddings as they go into block 0. What is found there is in the words already.",
        ),
    ],
};

static MODEL: Table = Table {
    about: "One table a model; several of them are a sweep. Exactly one of `repo`, `path` and `ollama`.",
    abouts: &[],
    keys: &[
        key("repo", Type::Text, Said("-"), "A repository on the hub, `owner/name`."),
        key(
            "path",
            Type::Text,
            Said("-"),
            "A folder in Hugging Face format, or a GGUF file, relative to the project.",
        ),
        key(
            "ollama",
            Type::Text,
            Said("-"),
            "A model that Ollama has fetched, `name:tag`: its GGUF file under `OLLAMA_MODELS` or where Ollama keeps models.",
        ),
        key(
            "tokenizer",
            Type::Text,
            Said("the checkpoint's own"),
            "A folder, or a repository on the hub, whose tokenizer and chat template are used in the place of the checkpoint's own: for a GGUF file out of which the tokenizer cannot be rebuilt, and checkpoints without `tokenizer.json`.",
        ),
        key(
            "revision",
            Type::Text,
            Said("`\"main\"`, with `repo`"),
            "Branch, tag or commit of `repo`; resolved to a commit, which the run records.",
        ),
        key(
            "adapter",
            Type::Text,
            Said("-"),
            "A LoRA adapter as PEFT saves it (safetensors), merged when the model is loaded: a folder, relative to the project, or a repository on the hub, `owner/name`.",
        ),
        key(
            "adapter_revision",
            Type::Text,
            Said("`\"main\"`, with an `adapter` on the hub"),
            "Branch, tag or commit of `adapter`; resolved to a commit, which the run records.",
        ),
        key(
            "dtype",
            <Dtype as Value>::OF,
            Said("the checkpoint's own"),
            "The type that weights are held in.",
        ),
        key(
            "compute_dtype",
            <Dtype as Value>::OF,
            Said("on a CPU `\"f32\"`, else the type of the weights"),
            "The type of activations and arithmetic. Where it is not that of the weights, each weight is converted whenever it is used: `dtype = \"bf16\"` computed in `\"f32\"` gives the numbers of `dtype = \"f32\"` with half the memory for weights, and is faster on most CPUs. On those that multiply matrices of bf16 (AMX), `\"bf16\"` is several times as fast, and less exact.",
        ),
        key(
            "offload",
            <Offload as Value>::OF,
            Is("\"none\""),
            "`\"layers\"`: for a model larger than the device's memory. Its weights stay in the checkpoint's files, and each block comes to the device when it is its turn, for all batches of a shard at once.",
        ),
        key(
            "ignore_config",
            Type::Texts,
            Said("none"),
            "Fields of `config.json` (`field`, or `table.field`) that are read as if they were not there, though they change what the model computes: for a model that is refused because of one, where you know that it does not matter. Part of the model's keys.",
        ),
        key("layers", LAYERS_TYPE, Said("the experiment's `layers`"), "Instead of the experiment's."),
        key(
            "thinking",
            Type::Bool,
            Is("false"),
            "What the chat template is told (`enable_thinking`, `thinking`) where stories are read through it; not for a model that writes stories.",
        ),
    ],
};

static EMOTIONS: Table = Table {
    about: "A preset, words of your own, or both: first the preset's, then yours.",
    abouts: &[],
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
