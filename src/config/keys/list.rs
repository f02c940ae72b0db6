//! The list of keys, but for those of story sources and analyses. Knows nothing of how they are read.

use super::Default::{Is, Required, Said};
use super::analyses::ANALYSES;
use super::sources::{NEUTRAL, STORIES};
use super::{Table, Type, Words, at_least, key, words};
use crate::config::{Offload, presets};
use crate::lm::{Dtype, Wrap};
use crate::stages::activations::{Long, Short, StoreDtype};
use crate::stages::stories::file::Empty;
use crate::stages::vectors::Center;

impl Words for Dtype {
    const WORDS: &'static [(&'static str, Self)] =
        &[("f32", Dtype::F32), ("bf16", Dtype::Bf16), ("f16", Dtype::F16)];
}
impl Words for Offload {
    const WORDS: &'static [(&'static str, Self)] = &[("none", Offload::None), ("layers", Offload::Layers)];
}
impl Words for Wrap {
    const WORDS: &'static [(&'static str, Self)] =
        &[("raw", Wrap::Raw), ("user", Wrap::User), ("assistant", Wrap::Assistant)];
}
impl Words for Short {
    const WORDS: &'static [(&'static str, Self)] =
        &[("skip", Short::Skip), ("error", Short::Error), ("whole", Short::Whole)];
}
impl Words for Long {
    const WORDS: &'static [(&'static str, Self)] =
        &[("error", Long::Error), ("skip", Long::Skip), ("cut", Long::Cut)];
}
impl Words for Empty {
    const WORDS: &'static [(&'static str, Self)] = &[("skip", Empty::Skip), ("error", Empty::Error)];
}
impl Words for StoreDtype {
    const WORDS: &'static [(&'static str, Self)] = &[("f32", StoreDtype::F32), ("f16", StoreDtype::F16)];
}
impl Words for Center {
    const WORDS: &'static [(&'static str, Self)] = &[("emotions", Center::Emotions), ("none", Center::None)];
}
const LAYERS_TYPE: Type = Type::Forms { words: &["all"], layers: true, table: Some(&LAYERS) };

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
        key(
            "sweep",
            Type::Sweep,
            Said("no variants"),
            "Keys with several values each: every combination is a variant of the experiment; see below.",
        ),
    ],
};

static LAYERS: Table = Table {
    path: "layers",
    about: "The table forms of `layers`; exactly one of them, and `embed` where it is wanted.",
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
    path: "models.<name>",
    about: "One table a model; several of them are a sweep. Exactly one of `repo`, `path` and `ollama`.",
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
            Type::Choice(words::<Dtype>),
            Said("the checkpoint's own"),
            "The type that weights are held in.",
        ),
        key(
            "compute_dtype",
            Type::Choice(words::<Dtype>),
            Said("on a CPU `\"f32\"`, else the type of the weights"),
            "The type of activations and arithmetic. Where it is not that of the weights, each weight is converted whenever it is used: `dtype = \"bf16\"` computed in `\"f32\"` gives the numbers of `dtype = \"f32\"` with half the memory for weights, and is faster on most CPUs. On those that multiply matrices of bf16 (AMX), `\"bf16\"` is several times as fast, and less exact.",
        ),
        key(
            "offload",
            Type::Choice(words::<Offload>),
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
            "A story with no token at `from_token` is skipped and counted (`skip`), an `error`, or pooled over all of its tokens (`whole`).",
        ),
        key(
            "long",
            Type::Choice(words::<Long>),
            Is("\"error\""),
            "A text of more tokens than the model's context is an `error`, skipped and counted (`skip`), or read up to the end of the context and counted (`cut`).",
        ),
        key(
            "batch_tokens",
            at_least(1),
            Said("2048 on the CPU, else 8192"),
            "At most so many padded tokens in a batch. Part of the keys of activations, because it changes low bits.",
        ),
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
            Type::Forms { words: &["none"], layers: false, table: Some(&DENOISE) },
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
