//! The sources of stories, one file per kind, and their common table.

pub mod file;
pub mod generate;
pub mod likeness;
pub mod naming;
mod params;
pub mod quality;
pub mod refusal;
pub mod served;
pub mod splitting;
pub mod template;
pub mod thought;
pub mod words;
pub mod writing;

use anyhow::{Context, Result};
use serde::Serialize;
use sha2::{Digest, Sha256};

pub use naming::names_emotion;
pub use params::{Columns, Generate, Reject, Several, Template, TemplateKeys, passages};
pub use served::{Protocol, Server};

use crate::store::table::{Column, Table};

/// The name of the table of rejected texts.
pub const REJECTED: &str = "rejected";

/// The identity of one story in a source: its emotion, topic and number.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// `None`: neutral text.
    pub emotion: Option<String>,
    /// The second emotion of a dialogue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub other: Option<String>,
    /// `None` for template passages, which have no topic.
    pub topic: Option<String>,
    /// The passage's number, or the number of the story for this emotion and topic; from 0.
    pub index: usize,
}

/// One row of the stories table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Story {
    /// See [`story_id`].
    pub story_id: String,
    pub emotion: Option<String>,
    /// The second emotion of a dialogue.
    pub other: Option<String>,
    pub topic: Option<String>,
    pub index: usize,
    pub text: String,
    /// The model that wrote it, or the kind of source.
    pub writer: String,
    /// The request that it answers, without system message and chat template.
    pub prompt: Option<String>,
    /// The seed of the accepted attempt; stored as an int64 with the same bits.
    pub seed: Option<u64>,
    /// The number of attempts rejected before this one.
    pub rejected: usize,
}

/// A story's stable id: the first 16 hexadecimal digits of the SHA-256 of its emotion, topic, index and text, each
/// preceded by its length, so that the encoding is unambiguous.
pub fn story_id(emotion: Option<&str>, topic: Option<&str>, index: usize, text: &str) -> String {
    let mut hasher = Sha256::new();
    for part in [emotion, topic, Some(&index.to_string()), Some(text)] {
        hash_part(&mut hasher, part);
    }
    hex::encode(&hasher.finalize()[..8])
}

/// Hashes `part` with a tag for absence and its length, so that the encoding is unambiguous.
fn hash_part(hasher: &mut Sha256, part: Option<&str>) {
    match part {
        None => hasher.update([0]),
        Some(text) => {
            hasher.update([1]);
            hasher.update((text.len() as u64).to_le_bytes());
            hasher.update(text);
        }
    }
}

/// The stories table (schema `stories/1`); for dialogues with a column `other`.
pub fn table(rows: &[Story]) -> Table {
    let ints = |f: fn(&Story) -> usize| Column::I32(rows.iter().map(|r| f(r) as i32).collect());
    let strings = |f: fn(&Story) -> &String| Column::Str(rows.iter().map(|r| f(r).clone()).collect());
    let options =
        |f: fn(&Story) -> &Option<String>| Column::OptStr(rows.iter().map(|r| f(r).clone()).collect());
    let mut columns = vec![
        ("story_id", strings(|r| &r.story_id)),
        ("emotion", options(|r| &r.emotion)),
        ("topic", options(|r| &r.topic)),
        ("index", ints(|r| r.index)),
        ("text", strings(|r| &r.text)),
        ("writer", strings(|r| &r.writer)),
        ("prompt", options(|r| &r.prompt)),
        ("seed", Column::OptI64(rows.iter().map(|r| r.seed.map(|s| s as i64)).collect())),
        ("rejected", ints(|r| r.rejected)),
    ];
    if rows.iter().any(|row| row.other.is_some()) {
        columns.insert(2, ("other", options(|r| &r.other)));
    }
    Table::new("stories/1", columns)
}

/// The rows of a stories table; an error if a column is missing.
pub fn rows(table: &Table) -> Result<Vec<Story>> {
    let (id, emotion, topic) = (table.str("story_id")?, table.opt_str("emotion")?, table.opt_str("topic")?);
    let (index, text, writer) = (table.i32("index")?, table.str("text")?, table.str("writer")?);
    let (prompt, seed, rejected) = (table.opt_str("prompt")?, table.opt_i64("seed")?, table.i32("rejected")?);
    let other = table.opt_str("other").ok();
    let count = |value: i32| usize::try_from(value).context("a negative count in a stories table");
    (0..table.rows())
        .map(|i| {
            Ok(Story {
                story_id: id[i].clone(),
                emotion: emotion[i].clone(),
                other: other.and_then(|other| other[i].clone()),
                topic: topic[i].clone(),
                index: count(index[i])?,
                text: text[i].clone(),
                writer: writer[i].clone(),
                prompt: prompt[i].clone(),
                seed: seed[i].map(|s| s as u64),
                rejected: count(rejected[i])?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_every_part_and_on_where_it_stands() {
        let base = story_id(Some("a"), None, 0, "t");
        // Python: sha256 of b"\1" + len.to_bytes(8, "little") + bytes for each of b"a", b"0", b"t", with b"\0" for the topic.
        assert_eq!(base, "4304b735c782c608");
        for other in [
            story_id(None, Some("a"), 0, "t"),
            story_id(Some("a"), None, 1, "t"),
            story_id(Some("a"), Some(""), 0, "t"),
            story_id(Some("a"), None, 0, "u"),
        ] {
            assert_ne!(base, other);
        }
    }

    #[test]
    fn a_table_gives_its_rows_back() {
        let story = Story {
            story_id: story_id(None, Some("rain"), 3, "It rained."),
            emotion: None,
            other: Some("calm".into()),
            topic: Some("rain".into()),
            index: 3,
            text: "It rained.".into(),
            writer: "demo".into(),
            prompt: Some("Write.".into()),
            seed: Some(u64::MAX - 4),
            rejected: 2,
        };
        let table = table(std::slice::from_ref(&story));
        assert_eq!(table.opt_i64("seed").unwrap(), [Some(-5)]);
        assert_eq!(rows(&table).unwrap(), [story]);
    }
}
