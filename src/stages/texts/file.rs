//! Reads transcripts from files in many formats. Independent of the model and of where the files come from.

use std::io::BufReader;
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;
use zip::ZipArchive;

use super::{Changes, Labels, Said, Transcript, inspect, json, plain};
use crate::params::words;
use crate::stages::stories::file::text::{Lines, refuse_pointer};
use crate::stages::stories::file::{Packing, not_json};
use crate::store::table::{Column, Table};

/// Limit on a document, which is held in memory; in bytes.
const LARGEST: usize = 1 << 30;
/// The number of skipped transcripts that a message names.
const NAMED: usize = 3;

/// The known formats, as a message for people.
pub const KNOWN: &str = "known formats, by the file's ending: .jsonl (messages, ShareGPT), .json (the same, or a log of Inspect), \
                         .eval (Inspect) and .txt (lines with `Human:` and `Assistant:`), each but .eval also .gz or .zst";

/// The name of the table of skipped transcripts.
pub const BROKEN: &str = "broken";

words! {
    /// What becomes of a transcript that cannot be read.
    pub enum Broken {
        /// It is skipped, and counted.
        Skip = "skip",
        Error = "error",
    }
}

/// Transcript files and how to read them.
#[derive(Clone, Debug, PartialEq)]
pub struct Files {
    /// In reading order.
    pub paths: Vec<PathBuf>,
    /// The field of a transcript that states its outcome.
    pub label: Option<String>,
    /// The field that states the message in which the outcome happens, counted from 0.
    pub event: Option<String>,
    pub broken: Broken,
    /// For dialogues, the fields with the two emotions and the topic.
    pub labels: Option<LabelFields>,
}

/// The fields that label a dialogue.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LabelFields {
    pub emotion: String,
    pub other: String,
    pub topic: Option<String>,
}

/// What a set of transcript files contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The number of readable transcripts.
    pub transcripts: usize,
    /// The number of unreadable transcripts, and the reasons for the first of them.
    pub broken: usize,
    pub broken_at: Vec<String>,
    /// Transcripts without a label, if one is requested.
    pub unlabelled: usize,
    pub changes: Changes,
}

impl Survey {
    /// Notes for people about the files of the source `name`.
    pub fn notes(&self, name: &str) -> Vec<String> {
        let Survey { transcripts, broken, broken_at, unlabelled, changes } = self;
        let Changes { as_user, joined, empty } = *changes;
        let lines = [
            (*broken, format!("{broken} cannot be read, skipped: {}", broken_at.join("; "))),
            (*unlabelled, format!("{unlabelled} of {transcripts} have no label")),
            (
                as_user,
                format!(
                    "{as_user} turns of tools, or of the system behind the first, are read as the user's"
                ),
            ),
            (joined, format!("{joined} turns follow one of the same role, and are merged with it")),
            (empty, format!("{empty} turns have no text")),
        ];
        lines.into_iter().filter(|(n, _)| *n > 0).map(|(_, line)| format!("texts/{name}: {line}")).collect()
    }
}

/// A transcript of a file with the changes made to it, or the reason why it cannot be read.
type Found = Result<(Transcript, Changes)>;

/// The format of a file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Lines,
    Document,
    Eval,
    Plain,
}

/// The format and packing of a file with this name.
fn format_of(name: &str) -> Option<(Format, Packing)> {
    let name = name.to_lowercase();
    let (stem, packing) = match name.rsplit_once('.') {
        Some((stem, "gz")) => (stem, Packing::Gzip),
        Some((stem, "zst")) => (stem, Packing::Zstd),
        _ => (name.as_str(), Packing::None),
    };
    let format = match stem.rsplit_once('.')?.1 {
        "jsonl" | "ndjson" => Format::Lines,
        "json" => Format::Document,
        "eval" if packing == Packing::None => Format::Eval,
        "txt" => Format::Plain,
        _ => return None,
    };
    Some((format, packing))
}

/// The reason why a file with this name is not read; `None` if it is.
pub fn refused(name: &str) -> Option<&'static str> {
    format_of(name).is_none().then_some("has an unknown format")
}

impl Files {
    /// Surveys the files.
    ///
    /// # Errors
    /// A file is missing or is not of the format that its name implies; there are no transcripts at all; a transcript
    /// is broken and that is an error.
    pub fn survey(&self) -> Result<Survey> {
        let mut survey = Survey::default();
        self.each(&mut |found| {
            match found {
                Ok((transcript, changes)) => {
                    survey.transcripts += 1;
                    survey.unlabelled += usize::from(self.label.is_some() && transcript.label.is_none());
                    survey.changes.add(changes);
                }
                Err(error) => {
                    survey.broken += 1;
                    if survey.broken_at.len() < NAMED {
                        survey.broken_at.push(format!("{error:#}"));
                    }
                }
            }
            Ok(())
        })?;
        if survey.transcripts == 0 {
            let why = survey.broken_at.first().map_or_else(String::new, |why| format!(": {why}"));
            bail!("{}: no transcript can be read{why}", self.shown());
        }
        ensure!(
            self.label.is_none() || survey.unlabelled < survey.transcripts,
            "{}: no transcript has the label `{}`",
            self.shown(),
            self.label.as_deref().unwrap_or_default()
        );
        Ok(survey)
    }

    /// The tables `texts` and [`BROKEN`] for each of `ranges` of the transcripts that [`Files::survey`] counts, in the
    /// files' order; all broken transcripts are in the first.
    pub fn run(&self, ranges: &[Range<usize>]) -> Result<Vec<[Table; 2]>> {
        let mut all = Vec::new();
        let mut broken = Vec::new();
        self.each(&mut |found| {
            match found {
                Ok((transcript, _)) => all.push(transcript),
                Err(error) => broken.push(format!("{error:#}")),
            }
            Ok(())
        })?;
        let end = ranges.last().map_or(0, |range| range.end);
        ensure!(
            end <= all.len(),
            "{}: transcript {end} was asked for, but there are {}",
            self.shown(),
            all.len()
        );
        let tables = ranges.iter().map(|range| {
            let skipped = if range.start == 0 { std::mem::take(&mut broken) } else { Vec::new() };
            [super::table(&all[range.clone()]), Table::new("broken/1", vec![("why", Column::Str(skipped))])]
        });
        Ok(tables.collect())
    }

    /// Calls `visit` with every transcript.
    fn each(&self, visit: &mut dyn FnMut(Found) -> Result<()>) -> Result<()> {
        for path in &self.paths {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let mut placed = |place: &str, found: Found| {
                let found = found.with_context(|| format!("{name}, {place}"));
                match (found, self.broken) {
                    (Err(error), Broken::Error) => Err(error.context(
                        "a transcript cannot be read (`broken = \"skip\"` skips such and counts them)",
                    )),
                    (found, _) => visit(found),
                }
            };
            self.file(path, &name, &mut placed).with_context(|| format!("read {}", path.display()))?;
        }
        Ok(())
    }

    fn file(&self, path: &Path, name: &str, visit: &mut dyn FnMut(&str, Found) -> Result<()>) -> Result<()> {
        let Some((format, packing)) = format_of(name) else { bail!("it has an unknown format; {KNOWN}") };
        refuse_pointer(path)?;
        let object = |place: &str, value: Result<Value>| {
            let value = value?;
            let label = self.label.as_ref().map(|field| json::field(&value, field)).transpose()?.flatten();
            self.transcript(name, place, &value, json::turns(&value, &|_| None)?, label)
        };
        let sample = |place: &str, value: Result<Value>| {
            let value = value?;
            let label = self.label.as_ref().map(|field| inspect::label(&value, field)).transpose()?.flatten();
            self.transcript(name, place, &value, inspect::turns(&value)?, label)
        };
        match format {
            Format::Lines => {
                let mut lines = Lines::open(path, packing)?;
                while let Some(line) = lines.next()? {
                    let value = match line.trim() {
                        "" => continue,
                        line => serde_json::from_str(line).with_context(|| not_json(line)),
                    };
                    let place = format!("line {}", lines.number);
                    visit(&place, object(&place, value))?;
                }
            }
            Format::Document => {
                let text = Lines::open(path, packing)?.rest(LARGEST)?;
                match serde_json::from_str(&text).with_context(|| not_json(&text))? {
                    Value::Array(items)
                        if items
                            .iter()
                            .any(|item| item.get("role").is_none() && item.get("from").is_none()) =>
                    {
                        for (at, item) in items.into_iter().enumerate() {
                            let place = format!("item {at}");
                            visit(&place, object(&place, Ok(item)))?;
                        }
                    }
                    Value::Object(mut log) if log.get("samples").is_some_and(Value::is_array) => {
                        let samples = log.remove("samples").and_then(|samples| match samples {
                            Value::Array(samples) => Some(samples),
                            _ => None,
                        });
                        for (at, item) in samples.into_iter().flatten().enumerate() {
                            let place = format!("samples[{at}]");
                            visit(&place, sample(&place, Ok(item)))?;
                        }
                    }
                    whole => visit("item 0", object("item 0", Ok(whole)))?,
                }
            }
            Format::Eval => {
                let file = BufReader::new(fs_err::File::open(path)?);
                let mut zip = ZipArchive::new(file)
                    .context("it is no ZIP, as logs of Inspect are that end in .eval")?;
                for (at, place) in inspect::samples(&mut zip)? {
                    let value = inspect::sample(&mut zip, at);
                    visit(&place, sample(&place, value))?;
                }
            }
            Format::Plain => {
                let text = Lines::open(path, packing)?.rest(LARGEST)?;
                ensure!(
                    self.labels.is_none(),
                    "a text has no fields that say the emotions: write dialogues as .jsonl"
                );
                for (number, said) in plain::conversations(&text) {
                    let place = format!("line {number}");
                    visit(
                        &place,
                        said.and_then(|said| Transcript::of(format!("{name}, {place}"), said, None, None)),
                    )?;
                }
            }
        }
        Ok(())
    }

    fn transcript(
        &self,
        file: &str,
        place: &str,
        value: &Value,
        said: Vec<Said>,
        label: Option<String>,
    ) -> Found {
        let event = self.event.as_ref().map(|field| json::field(value, field)).transpose()?.flatten();
        let number = |text: String| {
            text.parse()
                .with_context(|| format!("the event {text:?} is no number of a message, counted from 0"))
        };
        let labels = self.labels.as_ref().map(|fields| self::labels(value, fields)).transpose()?;
        let place = format!("{file}, {place}");
        let (transcript, changes) = Transcript::of(place, said, label, event.map(number).transpose()?)?;
        Ok((Transcript { labels, ..transcript }, changes))
    }

    /// For people: the file, or the first of several.
    pub fn shown(&self) -> String {
        match self.paths.as_slice() {
            [first, _, ..] => format!("{} and {} more", first.display(), self.paths.len() - 1),
            paths => paths.iter().map(|path| path.display().to_string()).collect(),
        }
    }
}

fn labels(value: &Value, fields: &LabelFields) -> Result<Labels> {
    let field = |name: &str| json::field(value, name)?.with_context(|| format!("there is no `{name}`"));
    let emotions = [field(&fields.emotion)?, field(&fields.other)?].map(|word| word.trim().to_lowercase());
    let topic = fields.topic.as_ref().map(|name| json::field(value, name)).transpose()?.flatten();
    Ok(Labels { emotions, topic })
}
