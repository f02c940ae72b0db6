//! `[models]` and `[emotions]`. Independent of checkpoints: folders and repositories are opened later.

use std::collections::HashSet;

use super::{Adapter, Layers, Model, ModelSource, Offload, OtherTokenizer};
use crate::lm::Dtype;
use crate::params::problem::{Problem, quoted};
use crate::params::{Params as _, Parts, Read, Reader, Reported, Type, maybe_filled, params, presets};
use crate::stages::stories::words::{folded, is_letters};

params! {
    /// One table a model; several of them are a sweep. Exactly one of `repo`, `path` and `ollama`.
    #[check(one_checkpoint)]
    pub struct ModelKeys {
        /// A repository on the hub, `owner/name`.
        #[unset("-")]
        #[with(maybe_repo)]
        pub repo: Option<String>;
        /// A folder in Hugging Face format, or a GGUF file, relative to the project.
        #[unset("-")]
        #[with(maybe_filled)]
        pub path: Option<String>;
        /// A model that Ollama has fetched, `name:tag`: its GGUF file under `OLLAMA_MODELS` or where Ollama keeps models.
        #[unset("-")]
        #[with(maybe_filled)]
        pub ollama: Option<String>;
        /// A folder, or a repository on the hub, whose tokenizer and chat template are used in the place of the checkpoint's own:
        /// for a GGUF file out of which the tokenizer cannot be rebuilt, and checkpoints without `tokenizer.json`.
        #[unset("the checkpoint's own")]
        #[with(maybe_filled)]
        pub tokenizer: Option<String>;
        /// Branch, tag or commit of `repo`; resolved to a commit, which the run records.
        #[unset("`\"main\"`, with `repo`")]
        #[with(maybe_revision)]
        pub revision: Option<String>;
        /// A LoRA adapter as PEFT saves it (safetensors), merged when the model is loaded: a folder, relative to the project, or a
        /// repository on the hub, `owner/name`.
        #[unset("-")]
        #[with(maybe_filled)]
        pub adapter: Option<String>;
        /// Branch, tag or commit of `adapter`; resolved to a commit, which the run records.
        #[unset("`\"main\"`, with an `adapter` on the hub")]
        #[with(maybe_revision)]
        pub adapter_revision: Option<String>;
        /// The type that weights are held in.
        #[unset("the checkpoint's own")]
        pub dtype: Option<Dtype>;
        /// The type of activations and arithmetic. Where it is not that of the weights, each weight is converted whenever it is
        /// used: `dtype = "bf16"` computed in `"f32"` gives the numbers of `dtype = "f32"` with half the memory for weights, and
        /// is faster on most CPUs. On those that multiply matrices of bf16 (AMX), `"bf16"` is several times as fast, and less
        /// exact.
        #[unset("on a CPU `\"f32\"`, else the type of the weights")]
        pub compute_dtype: Option<Dtype>;
        /// `"layers"`: for a model larger than the device's memory. Its weights stay in the checkpoint's files, and each block
        /// comes to the device when it is its turn, for all batches of a shard at once.
        pub offload: Offload = "none";
        /// Fields of `config.json` (`field`, or `table.field`) that are read as if they were not there, though they change what
        /// the model computes: for a model that is refused because of one, where you know that it does not matter. Part of the
        /// model's keys.
        #[unset("none")]
        pub ignore_config: Vec<String>;
        /// Instead of the experiment's.
        #[unset("the experiment's `layers`")]
        pub layers: Option<Layers>;
        /// The chat template's switch (`enable_thinking`, `thinking`) when stories are read through it; not for a
        /// model that writes stories.
        pub thinking: bool = false;
    }
}

/// Every model, in the order of the file.
pub(super) fn models(root: &Reader<'_>, name: &str) -> Read<Vec<Model>> {
    let tables = root.named(name)?;
    let count = tables.len();
    let mut models = Vec::new();
    for (entry, reader) in tables {
        if entry.key == "self" {
            let problem = Problem::at(entry.key_span, "`self` cannot be a model's name");
            reader.note(problem.hint("`model = \"self\"` means that each model writes its own stories"));
        } else if let Ok(keys) = ModelKeys::read(&reader) {
            models.push(model(root, &reader, entry.key, keys));
        }
    }
    if models.len() < count {
        return Err(Reported);
    }
    Ok(models)
}

fn model(root: &Reader<'_>, reader: &Reader<'_>, name: String, keys: ModelKeys) -> Model {
    let ModelKeys {
        repo,
        path,
        ollama,
        tokenizer,
        revision,
        adapter,
        adapter_revision,
        dtype,
        compute_dtype,
        offload,
        ignore_config,
        layers,
        thinking,
    } = keys;
    let project = &reader.scope.project;
    let source = match (path, ollama) {
        (Some(path), _) => ModelSource::Path(project.join(path)),
        (_, Some(ollama)) => ModelSource::Ollama(ollama),
        _ => ModelSource::Repo {
            repo: repo.unwrap_or_default(),
            revision: revision.unwrap_or_else(|| "main".into()),
        },
    };
    let adapter = adapter.map(|written| Adapter {
        path: project.join(&written),
        written,
        revision: adapter_revision,
        span: reader.span_of("adapter"),
    });
    let tokenizer = tokenizer.map(|written| OtherTokenizer {
        path: project.join(&written),
        written,
        span: reader.span_of("tokenizer"),
    });
    let place = ["path", "ollama"].into_iter().find(|key| reader.has(key)).unwrap_or("repo");
    let kept = if layers.is_some() || !root.has("layers") { reader } else { root };
    Model {
        name,
        source,
        adapter,
        tokenizer,
        dtype,
        compute_dtype,
        offload,
        ignore_config,
        layers,
        thinking,
        span: reader.span(),
        source_span: reader.span_of(place),
        layers_span: kept.span_of("layers"),
        ignore_spans: reader.spans_in("ignore_config"),
        thinking_span: reader.span_of("thinking"),
    }
}

/// Requires exactly one source of the checkpoint, and revisions only for repositories.
fn one_checkpoint(reader: &Reader<'_>, _: &Parts<ModelKeys>) -> Read<()> {
    if reader.has("adapter_revision") && !reader.has("adapter") {
        let problem = Problem::at(reader.key_span("adapter_revision"), "there is no `adapter`");
        reader.note(problem.hint("remove it, or name an adapter with `adapter`"));
    }
    let given: Vec<&str> = ["repo", "path", "ollama"].into_iter().filter(|key| reader.has(key)).collect();
    if let (Some(key), true) = (given.first().filter(|key| **key != "repo"), reader.has("revision")) {
        let message = format!("`revision` belongs to a `repo`, not to a `{key}`");
        let problem = Problem::at(reader.key_span("revision"), message);
        return reader.wrong(problem.hint("remove it; a folder's files are identified by their content"));
    }
    match given[..] {
        [_] => Ok(()),
        [] => {
            let message = format!("`[{}]` has neither `repo` nor `path`", reader.label);
            let problem = Problem::at(reader.span(), message);
            reader.wrong(problem.hint("add `repo = \"owner/name\"` of the hub, or `path = \"folder\"`"))
        }
        [first, second, ..] => {
            let message = format!("`[{}]` has both `{first}` and `{second}`", reader.label);
            let problem = Problem::at(reader.key_span(second), message);
            reader.wrong(problem.hint("keep the one that the model should be loaded from"))
        }
    }
}

/// Whether a text has the form `owner/name` of hub repositories.
pub fn is_repo(text: &str) -> bool {
    let part = |part: &str| {
        let fits = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
        !part.is_empty() && !part.starts_with('.') && part.chars().all(fits)
    };
    text.split_once('/').is_some_and(|(owner, name)| part(owner) && part(name))
}

/// `repo` as `owner/name`.
pub(super) fn repo(reader: &Reader<'_>, name: &str) -> Read<String> {
    let repo = reader.filled(name)?;
    if is_repo(&repo) {
        return Ok(repo);
    }
    let problem =
        Problem::at(reader.span_of(name), format!("{} is not a repository of the hub", quoted(&repo)));
    reader.wrong(
        problem
            .hint("a repository is `owner/name`, as in the address of its page; a folder is given as `path`"),
    )
}

/// The same for an optional key.
fn maybe_repo(reader: &Reader<'_>, name: &str) -> Read<Option<String>> {
    if reader.has(name) { repo(reader, name).map(Some) } else { Ok(None) }
}

/// An optional revision.
fn maybe_revision(reader: &Reader<'_>, name: &str) -> Read<Option<String>> {
    if reader.has(name) { revision(reader, name).map(Some) } else { Ok(None) }
}

/// A branch, tag or commit.
pub(super) fn revision(reader: &Reader<'_>, key: &str) -> Read<String> {
    let revision: String = reader.get(key)?;
    let fits = |character: char| character.is_ascii_alphanumeric() || "._-/".contains(character);
    if !revision.is_empty() && !revision.contains("..") && revision.chars().all(fits) {
        return Ok(revision);
    }
    let problem = Problem::at(reader.span_of(key), format!("{} is not a revision", quoted(&revision)));
    reader.wrong(problem.hint("a revision is a branch, a tag or a commit"))
}

params! {
    /// A preset, words of your own, or both: first the preset's, then yours.
    pub struct EmotionKeys {
        /// A list that ships with emoflow.
        #[unset("-")]
        #[of(Type::Preset(presets::EMOTIONS))]
        pub preset: Option<Vec<String>>;
        /// Emotions by name: letters, with single spaces, hyphens or apostrophes inside.
        #[unset("-")]
        pub words: Option<Vec<String>>;
    }
}

/// The preset's words followed by the file's own, without duplicates.
pub(super) fn emotions(root: &Reader<'_>, name: &str) -> Read<Vec<String>> {
    let reader = root.inner(name)?;
    let EmotionKeys { preset, words } = EmotionKeys::read(&reader)?;
    if preset.is_none() && words.is_none() {
        let problem = Problem::at(reader.span(), "`[emotions]` names no emotion");
        return reader
            .wrong(problem.hint("add `preset = \"core-9\"`, or `words = [\"happy\", \"sad\"]`, or both"));
    }
    let mut emotions = preset.unwrap_or_default();
    let of_preset: HashSet<String> = emotions.iter().map(|word| folded(word)).collect();
    let mut seen = of_preset.clone();
    let mut wrong = false;
    for (word, span) in words.unwrap_or_default().into_iter().zip(reader.spans_in("words")) {
        let problem = if !is_word(&word) {
            Problem::at(span, format!("{} cannot be an emotion", quoted(&word))).hint(
                "an emotion consists of letters, with single spaces, hyphens or apostrophes in between, such as `at \
                 ease`",
            )
        } else if !seen.insert(folded(&word)) {
            let where_else = if of_preset.contains(&folded(&word)) { "in the preset" } else { "in `words`" };
            Problem::at(span, format!("{} is {where_else} already", quoted(&word))).hint(
                "remove it from `words`: case, spaces, hyphens and apostrophes do not distinguish emotions",
            )
        } else {
            emotions.push(word);
            continue;
        };
        reader.note(problem);
        wrong = true;
    }
    if wrong {
        return Err(Reported);
    }
    // Stored for the tables further down that refer to emotions.
    Ok(root.scope.emotions.get_or_init(|| emotions).clone())
}

/// Letters of any script, with single spaces, hyphens or apostrophes between them.
fn is_word(word: &str) -> bool {
    let parts: Vec<&str> = word.split([' ', '-', '\'', '\u{2019}']).collect();
    word.chars().count() <= 40 && parts.iter().all(|part| is_letters(part))
}
