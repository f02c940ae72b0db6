//! `[transcripts]`: existing conversations, from files. Opens no file.

use std::path::PathBuf;

use serde::Serialize;

use super::Span;
use crate::params::{
    Chosen, Kind, Params as _, Problem, Read, Reader, Texts, Type, maybe_filled, params, problem::quoted,
};
use crate::stages::texts::file::{Broken, KNOWN, refused};

params! {
    /// Transcripts from files: conversations between a person and an assistant, which analyses read token by token. See
    /// docs/monitor.md.
    pub struct FileKeys {
        /// A file, or several as a glob (`logs/*.jsonl`), relative to the project: `.jsonl` with a conversation a line (`messages` as
        /// OpenAI's API has them, or ShareGPT's `conversations`), `.json` with one or a list of them, logs of Inspect (`.eval`, or
        /// `.json` with `samples`), or `.txt` with lines that begin with `Human:` and `Assistant:`; each but `.eval` also `.gz` or
        /// `.zst`.
        #[of(Type::Text)]
        #[with(path)]
        pub path: PathBuf;
        /// The field that says a conversation's outcome, with dots between levels (`metadata.outcome`); of Inspect also a scorer's
        /// name.
        #[unset("no labels")]
        #[with(maybe_filled)]
        pub label: Option<String>;
        /// The field that says in which message the outcome happens, counted from 0.
        #[unset("not known")]
        #[with(maybe_filled)]
        pub event: Option<String>;
        /// A conversation that cannot be read: skipped and counted, or an error. Not part of any key.
        pub broken: Broken = "skip";
    }
}

/// One `[transcripts.<name>.file]` table.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Transcripts {
    pub name: String,
    pub keys: FileKeys,
    /// The location of `path`.
    #[serde(skip)]
    pub span: Span,
}

/// The kinds of sources of transcripts.
pub(super) fn kinds() -> Vec<Kind> {
    vec![Kind { name: "file", table: FileKeys::TABLE, texts: Texts::Stories }]
}

/// Every valid source of transcripts, in the order of the file.
pub(super) fn transcripts(root: &Reader<'_>, name: &str) -> Read<Vec<Transcripts>> {
    let mut all = Vec::new();
    for Chosen { name, reader, .. } in root.named_kinds(name)? {
        if let Ok(keys) = FileKeys::read(&reader) {
            all.push(Transcripts { name, keys, span: reader.span_of("path") });
        }
    }
    Ok(all)
}

pub(super) fn path(reader: &Reader<'_>, name: &str) -> Read<PathBuf> {
    let written = reader.filled(name)?;
    let last = written.rsplit('/').next().unwrap_or_default();
    // A glob may leave the extension open.
    let ending = last.rsplit('.').next().unwrap_or_default();
    let is_plain = last.contains('.') && ending.chars().all(|character| character.is_ascii_alphanumeric());
    match refused(last).filter(|_| is_plain) {
        None => Ok(reader.scope.project.join(&written)),
        Some(why) => {
            let problem = Problem::at(reader.span_of(name), format!("{} {why}", quoted(&written)));
            reader.wrong(problem.hint(KNOWN))
        }
    }
}
