//! `[stories]` and `[neutral]`: the sources of texts. Opens no file and calls no model.

use std::path::PathBuf;
use std::rc::Rc;

use globset::{GlobBuilder, GlobMatcher};

use super::{Dataset, FileRows, Source, SourceKind, Span, Writer};
use crate::params::problem::{Problem, quoted, suggestion};
use crate::params::{
    Case, Chosen, Key, Kind, Node, Params as _, Read, Reader, Table, Texts, Type, Value, inline, params,
};
use crate::stages::stories::{Generate, Server, Template, TemplateKeys, file};

/// A kind of source.
struct Row {
    kind: &'static str,
    table: &'static Table,
    read: fn(&Reader<'_>) -> Read<SourceKind>,
    /// The key whose value is used as the location in messages about what the source refers to; `None`: the table.
    place: Option<&'static str>,
}

/// All kinds of sources.
static SOURCES: &[Row] = &[
    Row { kind: "template", table: TemplateKeys::TABLE, read: template, place: None },
    Row { kind: "generate", table: Written::TABLE, read: written, place: None },
    Row { kind: "file", table: Files::TABLE, read: files, place: Some("path") },
    Row { kind: "ollama", table: Served::TABLE, read: served, place: Some("model") },
    Row { kind: "openai", table: Served::TABLE, read: served, place: Some("model") },
    Row { kind: "dataset", table: Dataset::TABLE, read: dataset, place: Some("repo") },
];

/// The tables of the kinds, for stories.
pub(super) fn kinds() -> Vec<Kind> {
    kinds_of(Texts::Stories)
}

/// The same for neutral text.
pub(super) fn neutral_kinds() -> Vec<Kind> {
    kinds_of(Texts::Neutral)
}

fn kinds_of(texts: Texts) -> Vec<Kind> {
    SOURCES.iter().map(|row| Kind { name: row.kind, table: row.table, texts }).collect()
}

fn template(reader: &Reader<'_>) -> Read<SourceKind> {
    Template::read(reader).map(SourceKind::Template)
}

params! {
    /// Stories written by a model of this experiment: `per_topic` for each emotion and topic.
    #[when(Case::Neutral, "Neutral texts written by a model of this experiment.")]
    pub struct Written {
        /// Who writes: `"self"` (each model its own), or the name of one of `[models]` for all.
        pub model: Writer = "self";
        #[of(Type::Inline(Generate::TABLE))]
        #[with(inline::<Generate>)]
        pub params: Generate;
    }
}

fn written(reader: &Reader<'_>) -> Read<SourceKind> {
    Written::read(reader).map(|Written { model: writer, params }| SourceKind::Generate { writer, params })
}

params! {
    /// Texts written at any OpenAI-compatible endpoint.
    #[when(Case::Kind("ollama"), "Texts written by a model on a running Ollama server.")]
    pub struct Served {
        #[of(Type::Inline(Server::TABLE))]
        #[with(inline::<Server>)]
        pub server: Server;
        #[of(Type::Inline(Generate::TABLE))]
        #[with(inline::<Generate>)]
        pub params: Generate;
    }
}

fn served(reader: &Reader<'_>) -> Read<SourceKind> {
    Served::read(reader).map(|Served { server, params }| SourceKind::Served { server, params })
}

params! {
    /// Stories from files. Rows of other emotions than the experiment's, and those with several, are skipped; an emotion
    /// without any is an error.
    #[when(Case::Neutral, "Neutral texts from files.")]
    pub struct Files {
        /// A file, or several as a glob (`stories/*.jsonl`, read in the order of their names), relative to the project:
        /// `.parquet`, `.jsonl`, `.json`, `.csv` (also with semicolons or tabs), `.tsv` or `.txt` (a text a line), each also
        /// `.gz` or `.zst`; UTF-8, or UTF-16 with its mark. Where rows have no emotion of their own, the file's name is it
        /// (`stories/sad.txt`).
        #[of(Type::Text)]
        #[with(path)]
        pub path: PathBuf;
        #[of(Type::Inline(FileRows::TABLE))]
        #[with(inline::<FileRows>)]
        pub rows: FileRows;
    }
}

fn files(reader: &Reader<'_>) -> Read<SourceKind> {
    Files::read(reader).map(|Files { path, rows }| SourceKind::File { path, rows })
}

fn dataset(reader: &Reader<'_>) -> Read<SourceKind> {
    Dataset::read(reader).map(SourceKind::Dataset)
}

/// Every valid story source, in the order of the file.
pub(super) fn stories(root: &Reader<'_>, name: &str) -> Read<Vec<Source>> {
    let mut sources = Vec::new();
    for chosen in root.named_kinds(name)? {
        if chosen.name == "neutral" {
            let problem = Problem::at(chosen.span.clone(), "a story source cannot be named `neutral`");
            chosen.reader.note(problem.hint("neutral text has a table of its own, `[neutral.<kind>]`"));
        }
        sources.extend(source(chosen));
    }
    Ok(sources)
}

/// The source of neutral text, if there is one.
pub(super) fn neutral(root: &Reader<'_>, name: &str) -> Read<Option<Source>> {
    root.kinds(name)?.map(source).transpose()
}

fn source(chosen: Chosen<'_>) -> Read<Source> {
    let Chosen { name, kind, span, reader } = chosen;
    let row = SOURCES.iter().find(|row| row.kind == kind.name).expect("kinds are those of the rows");
    let kind = (row.read)(&reader)?;
    Ok(Source { name, kind, span: row.place.map_or(span, |key| reader.span_of(key)) })
}

/// Models with problems of their own are accepted as names too, so that one mistake is reported once.
impl Value for Writer {
    const OF: Type = Type::Text;

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Writer> {
        let name = reader.filled(key.name)?;
        let models: Vec<&str> = reader.scope.names("models").collect();
        if name == "self" {
            return Ok(Writer::Own);
        }
        if models.contains(&name.as_str()) {
            return Ok(Writer::Model(name));
        }
        let names = models.into_iter().chain(["self"]);
        let problem = Problem::at(node.span.clone(), format!("there is no writing model {}", quoted(&name)));
        reader.wrong(problem.hint(suggestion(&name, "it is `self` (each model its own) or one of", names)))
    }
}

fn path(reader: &Reader<'_>, name: &str) -> Read<PathBuf> {
    let written = reader.filled(name)?;
    match file::refused(&written).filter(|_| is_plain(&written)) {
        None => Ok(reader.scope.project.join(&written)),
        Some(why) => {
            let problem = Problem::at(reader.span_of(name), format!("{} {why}", quoted(&written)));
            reader.wrong(problem.hint(file::KNOWN))
        }
    }
}

/// The location of `files`.
pub(super) fn files_span(reader: &Reader<'_>, _: &str) -> Read<Span> {
    Ok(reader.span_of("files"))
}

/// A glob of files in a repository; an error if it is invalid, points outside the repository, or selects files of an
/// unsupported format.
pub(super) fn glob(reader: &Reader<'_>, name: &str) -> Read<String> {
    let files = reader.filled(name)?;
    let at = |message: String| Problem::at(reader.span_of(name), message);
    if let Err(error) = matcher(&files) {
        let problem = at(format!("{} is not a valid glob pattern: {}", quoted(&files), error.kind()));
        return reader
            .wrong(problem.hint("such as \"data/*.parquet\"; `**` crosses folders, `*` and `?` do not"));
    }
    if files.split('/').any(|part| ["", ".", ".."].contains(&part)) {
        let problem = at(format!("{} points outside the repository", quoted(&files)));
        return reader
            .wrong(problem.hint("files are named from the repository's top, such as \"data/*.parquet\""));
    }
    match file::refused(&files).filter(|_| is_plain(&files)) {
        Some(why) => reader.wrong(at(format!("{} {why}", quoted(&files))).hint(CONVERTED)),
        None => Ok(files),
    }
}

/// Whether the extension at the end of a glob alone determines the format of the files.
fn is_plain(files: &str) -> bool {
    let ending = files.rsplit(['/', '.']).next().unwrap_or_default();
    files.rsplit('/').next().is_some_and(|name| name.contains('.'))
        && ending.chars().all(|character| character.is_ascii_alphanumeric())
}

/// The hint for dataset files of an unsupported format.
pub const CONVERTED: &str = "name .parquet, .jsonl, .json, .csv, .tsv or .txt files; of many datasets the hub itself keeps a Parquet copy: \
                             `revision = \"refs/convert/parquet\"`";

/// A matcher of file names within a repository: `*` and `?` do not match `/`, `**` does.
pub fn matcher(files: &str) -> Result<GlobMatcher, globset::Error> {
    Ok(GlobBuilder::new(files).literal_separator(true).build()?.compile_matcher())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glob_stays_within_a_folder_unless_it_says_otherwise() {
        for (files, yes, no) in [
            ("data/*.csv", "data/a.csv", "data/more/a.csv"),
            ("*.csv", "a.csv", "data/a.csv"),
            ("data/?.csv", "data/a.csv", "data/ab.csv"),
            ("a?b.csv", "a-b.csv", "a/b.csv"),
            ("**/*.csv", "data/more/a.csv", "data/a.jsonl"),
            ("data/**", "data/more/a.csv", "other/a.csv"),
            ("data/**/a.csv", "data/a.csv", "data/b.csv"),
            ("{train,test}-[0-9].csv", "test-1.csv", "test-a.csv"),
            ("A.csv", "A.csv", "a.csv"),
        ] {
            let matcher = matcher(files).unwrap();
            assert!(matcher.is_match(yes), "{files} {yes}");
            assert!(!matcher.is_match(no), "{files} {no}");
        }
    }
}
