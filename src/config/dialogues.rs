//! `[dialogues]`: conversations in which both speakers' emotions are known, generated or read from files. Opens no
//! file and calls no model.

use std::path::PathBuf;

use serde::Serialize;

use super::transcripts::path;
use super::{SourceKind, Span, Writer, models, sources};
use crate::params::{
    Chosen, Kind, Params as _, Problem, Read, Reader, Table, Texts, Type, filled, inline, maybe_filled,
    params,
};
use crate::stages::stories::{Generate, Server, Template, passages};
use crate::stages::texts::Pairing;
use crate::stages::texts::file::Broken;

params! {
    /// Dialogues written by a model of this experiment: for each emotion and topic `per_topic`, each with a second emotion that is
    /// drawn. Each speaker's turn begins with `Person:` or `Assistant:`.
    pub struct Written {
        /// Whose the two emotions are. `speakers`: the person's and the assistant's, drawn independently. `deflection`: the one
        /// that a speaker feels and another that they show.
        pub kind: Pairing = "speakers";
        /// Who writes: `"self"` (each model its own), or the name of one of `[models]` for all.
        pub model: Writer = "self";
        #[of(Type::Inline(Generate::TABLE))]
        #[with(inline::<Generate>)]
        pub params: Generate;
    }
}

params! {
    /// Dialogues written at any OpenAI-compatible endpoint, or by a model on a running Ollama server.
    pub struct Served {
        /// Whose the two emotions are: see `generate`.
        pub kind: Pairing = "speakers";
        #[of(Type::Inline(Server::TABLE))]
        #[with(inline::<Server>)]
        pub server: Server;
        #[of(Type::Inline(Generate::TABLE))]
        #[with(inline::<Generate>)]
        pub params: Generate;
    }
}

params! {
    /// Dialogues that are fixed but for the two emotions' words.
    pub struct Fixed {
        /// Whose the two emotions are: see `generate`.
        pub kind: Pairing = "speakers";
        /// Each with lines that begin with `Person:` and `Assistant:`; `{emotion}` and `{other}` become the words.
        #[of(Type::Texts)]
        #[with(passages)]
        pub passages: Vec<String>;
    }
}

params! {
    /// Dialogues from files of transcripts, in which fields say the emotions.
    pub struct Files {
        /// Whose the two emotions are: see `generate`.
        pub kind: Pairing = "speakers";
        /// A file, or several as a glob, relative to the project: in the formats of `transcripts.<name>.file`, but for `.txt`, which
        /// has no fields.
        #[of(Type::Text)]
        #[with(path)]
        pub path: PathBuf;
        #[of(Type::Inline(Fields::TABLE))]
        #[with(inline::<Fields>)]
        pub fields: Fields;
    }
}

params! {
    /// Dialogues from a dataset repository on the hub, in which fields say the emotions.
    pub struct Dataset {
        /// Whose the two emotions are: see `generate`.
        pub kind: Pairing = "speakers";
        /// A dataset repository on the hub, `owner/name`.
        #[with(models::repo)]
        pub repo: String;
        /// Branch, tag or commit; resolved to a commit, which the run records.
        #[with(models::revision)]
        pub revision: String = "main";
        /// Which of its files, as a glob; in the formats of `dialogues.<name>.file`.
        #[with(sources::glob)]
        pub files: String;
        #[of(Type::Inline(Fields::TABLE))]
        #[with(inline::<Fields>)]
        pub fields: Fields;
        /// Where `files` was written.
        #[of(Type::NONE)]
        #[with(sources::files_span)]
        #[serde(skip)]
        pub files_span: Span;
    }
}

params! {
    /// Which fields of a conversation say what.
    pub struct Fields {
        /// The field with the person's emotion; of deflection the one that is felt.
        #[with(filled)]
        pub emotion: String = "emotion";
        /// The field with the assistant's emotion; of deflection the one that is shown.
        #[with(filled)]
        pub other: String = "other";
        /// The field with the topic. Dialogues on one topic are resampled and shuffled together.
        #[unset("each dialogue stands alone")]
        #[with(maybe_filled)]
        pub topic: Option<String>;
        /// A conversation that cannot be read: skipped and counted, or an error. Not part of any key.
        pub broken: Broken = "skip";
    }
}

/// One `[dialogues.<name>.<kind>]` table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Dialogues {
    pub name: String,
    pub pairing: Pairing,
    pub source: DialogueSource,
    /// The table's header; for files, their `path` or `repo`.
    #[serde(skip)]
    pub span: Span,
}

/// Where dialogues come from.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DialogueSource {
    /// Generated like stories, but the texts are dialogues.
    Written(SourceKind),
    Files(Files),
    Dataset(Dataset),
}

impl Dialogues {
    /// How they are generated; `None`: they come from files.
    pub fn written(&self) -> Option<&SourceKind> {
        match &self.source {
            DialogueSource::Written(kind) => Some(kind),
            DialogueSource::Files(_) | DialogueSource::Dataset(_) => None,
        }
    }
}

/// The kinds of sources of dialogues.
pub(super) fn kinds() -> Vec<Kind> {
    let kind = |name, table: &'static Table| Kind { name, table, texts: Texts::Dialogues };
    vec![
        kind("template", Fixed::TABLE),
        kind("generate", Written::TABLE),
        kind("file", Files::TABLE),
        kind("dataset", Dataset::TABLE),
        kind("ollama", Served::TABLE),
        kind("openai", Served::TABLE),
    ]
}

/// Every valid source of dialogues, in the order of the file.
pub(super) fn dialogues(root: &Reader<'_>, name: &str) -> Read<Vec<Dialogues>> {
    let mut all = Vec::new();
    for Chosen { name, kind, span, reader } in root.named_kinds(name)? {
        for other in ["stories", "transcripts"] {
            if root.scope.names(other).any(|known| known == name) || name == "neutral" {
                let message = format!("`{name}` is the name of two sources of texts");
                reader.note(Problem::at(span.clone(), message).hint(format!(
                    "give the dialogues another name than those of `[{other}]`, and not `neutral`"
                )));
                break;
            }
        }
        if let Ok((pairing, source)) = source(kind.name, &reader) {
            let span = match source {
                DialogueSource::Files(_) => reader.span_of("path"),
                DialogueSource::Dataset(_) => reader.span_of("repo"),
                DialogueSource::Written(_) => span,
            };
            all.push(Dialogues { name, pairing, source, span });
        }
    }
    Ok(all)
}

fn source(kind: &str, reader: &Reader<'_>) -> Read<(Pairing, DialogueSource)> {
    let written = |pairing: Pairing, kind| Ok((pairing, DialogueSource::Written(kind)));
    match kind {
        "template" => {
            let Fixed { kind, passages } = Fixed::read(reader)?;
            written(kind, SourceKind::Template(Template { passages }))
        }
        "generate" => {
            let Written { kind, model: writer, params } = Written::read(reader)?;
            written(kind, SourceKind::Generate { writer, params: asked(params, kind) })
        }
        "file" => {
            let files = Files::read(reader)?;
            Ok((files.kind, DialogueSource::Files(files)))
        }
        "dataset" => {
            let dataset = Dataset::read(reader)?;
            Ok((dataset.kind, DialogueSource::Dataset(dataset)))
        }
        _ => {
            let Served { kind, server, params } = Served::read(reader)?;
            written(kind, SourceKind::Served { server, params: asked(params, kind) })
        }
    }
}

/// Fills in the default prompt of the kind of dialogues if none is given.
fn asked(params: Generate, pairing: Pairing) -> Generate {
    match params.prompt.is_empty() {
        true => Generate { prompt: pairing.prompt().to_string(), ..params },
        false => params,
    }
}
