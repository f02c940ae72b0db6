//! Transcripts: conversations between a person and an assistant, read from files, and their table.

pub mod dialogues;
pub mod file;
mod inspect;
mod json;
mod plain;
pub mod samples;
#[cfg(test)]
mod tests;

use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};

pub use dialogues::Pairing;
pub use file::{Files, Survey};

use super::stories::{self, Story, story_id};
use crate::lm::{Message, Role};
use crate::store::table::{Column, Table};

/// Increased when the same files would give different transcripts.
pub const VERSION: u32 = 1;

/// A conversation with more turns than this is rejected.
const MOST_TURNS: usize = 10_000;
/// So is one with more bytes than this.
const MOST_BYTES: usize = 8 << 20;

/// One conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transcript {
    /// Stable: a function of the turns' contents and roles, independent of the label.
    pub id: String,
    /// The place in its file: `logs.jsonl, line 7`.
    pub place: String,
    /// No two consecutive turns have the same role, and none is blank.
    pub turns: Vec<Message>,
    /// Its outcome, if the file states one.
    pub label: Option<String>,
    /// The index in `turns` of the turn in which the outcome happens, if the file states it.
    pub event: Option<usize>,
    /// Labels of a dialogue.
    pub labels: Option<Labels>,
}

/// The labels of a dialogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    /// The person's and the assistant's emotion, or the felt and the shown one: see [`Pairing`].
    pub emotions: [String; 2],
    /// Dialogues on one topic form a group.
    pub topic: Option<String>,
}

/// The changes made to a conversation so that a chat template accepts it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Turns of tools, and system turns after the first turn: read as the user's.
    pub as_user: usize,
    /// Turns that follow one of the same role: joined to it with a blank line between.
    pub joined: usize,
    /// Turns without text, which are dropped.
    pub empty: usize,
}

impl Changes {
    /// Adds the counts of `other`.
    pub fn add(&mut self, other: Changes) {
        self.as_user += other.as_user;
        self.joined += other.joined;
        self.empty += other.empty;
    }
}

/// A turn as the file has it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Said {
    role: Speaker,
    content: String,
}

/// The speaker of a turn in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speaker {
    System,
    User,
    Assistant,
    Tool,
}

impl Speaker {
    /// The speaker for a role name in any of the supported formats.
    fn of(name: &str) -> Result<Speaker> {
        Ok(match name.trim().to_lowercase().as_str() {
            "system" | "developer" => Speaker::System,
            "user" | "human" => Speaker::User,
            "assistant" | "ai" | "gpt" | "chatgpt" | "bard" | "bing" | "model" | "function_call" => {
                Speaker::Assistant
            }
            "tool" | "function" | "function_response" | "observation" | "ipython" => Speaker::Tool,
            _ => anyhow::bail!("{name:?} is not a role: the roles are system, user, assistant and tool"),
        })
    }
}

impl Transcript {
    /// A conversation from these turns; `event`: the index among them at which the outcome happened.
    fn of(
        place: String,
        said: Vec<Said>,
        label: Option<String>,
        event: Option<usize>,
    ) -> Result<(Transcript, Changes)> {
        ensure!(said.len() <= MOST_TURNS, "it has {} turns; at most {MOST_TURNS} are read", said.len());
        let bytes: usize = said.iter().map(|said| said.content.len()).sum();
        ensure!(bytes <= MOST_BYTES, "it has {} MiB; at most {} are read", bytes >> 20, MOST_BYTES >> 20);
        if let Some(event) = event {
            ensure!(
                event < said.len(),
                "its event is message {event}, counted from 0, and it has {}",
                said.len()
            );
        }
        let (mut turns, mut changes, mut moved) = (Vec::<Message>::new(), Changes::default(), None);
        for (at, Said { role, content }) in said.into_iter().enumerate() {
            if !content.trim().is_empty() {
                let role = match role {
                    Speaker::System if turns.is_empty() => Role::System,
                    Speaker::Assistant => Role::Assistant,
                    Speaker::User => Role::User,
                    Speaker::System | Speaker::Tool => {
                        changes.as_user += 1;
                        Role::User
                    }
                };
                match turns.last_mut().filter(|last| last.role == role) {
                    Some(last) => {
                        changes.joined += 1;
                        last.content.push_str("\n\n");
                        last.content.push_str(&content);
                    }
                    None => turns.push(Message::new(role, content)),
                }
            } else {
                changes.empty += 1;
            }
            if event == Some(at) {
                moved = Some(turns.len().saturating_sub(1));
            }
        }
        ensure!(
            turns.iter().any(|turn| turn.role != Role::System),
            "it has no turn of the user or the assistant"
        );
        let mut hasher = Sha256::new();
        for part in turns.iter().flat_map(|turn| [turn.role.name(), turn.content.as_str()]) {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let id = hex::encode(&hasher.finalize()[..8]);
        Ok((Transcript { id, place, turns, label, event: moved, labels: None }, changes))
    }
}

/// The table of transcripts (schema `texts/1`), one row per turn: `text_id`, `place`, `turn` (from 0), `role`,
/// `content`, `label` and `event` (whether the outcome happens in this turn); for dialogues also `emotion`, `other`
/// and `topic`.
pub fn table(transcripts: &[Transcript]) -> Table {
    let turns: Vec<(&Transcript, usize, &Message)> = transcripts
        .iter()
        .flat_map(|t| t.turns.iter().enumerate().map(move |(at, turn)| (t, at, turn)))
        .collect();
    let mut columns = vec![
        ("text_id", Column::Str(turns.iter().map(|(t, ..)| t.id.clone()).collect())),
        ("place", Column::Str(turns.iter().map(|(t, ..)| t.place.clone()).collect())),
        ("turn", Column::I32(turns.iter().map(|(_, at, _)| *at as i32).collect())),
        ("role", Column::Str(turns.iter().map(|(.., turn)| turn.role.name().to_string()).collect())),
        ("content", Column::Str(turns.iter().map(|(.., turn)| turn.content.clone()).collect())),
        ("label", Column::OptStr(turns.iter().map(|(t, ..)| t.label.clone()).collect())),
        ("event", Column::Bool(turns.iter().map(|(t, at, _)| t.event == Some(*at)).collect())),
    ];
    if transcripts.iter().any(|t| t.labels.is_some()) {
        let of = |get: &dyn Fn(&Labels) -> Option<String>| {
            Column::OptStr(turns.iter().map(|(t, ..)| t.labels.as_ref().and_then(get)).collect())
        };
        columns.push(("emotion", of(&|labels| Some(labels.emotions[0].clone()))));
        columns.push(("other", of(&|labels| Some(labels.emotions[1].clone()))));
        columns.push(("topic", of(&|labels| labels.topic.clone())));
    }
    Table::new("texts/1", columns)
}

/// Texts of the experiment file as a table of stories (schema `stories/1`) without emotions.
pub fn written(texts: &[String]) -> Table {
    let story = |(index, text): (usize, &String)| Story {
        story_id: story_id(None, None, index, text),
        emotion: None,
        other: None,
        topic: None,
        index,
        text: text.clone(),
        writer: "file".into(),
        prompt: None,
        seed: None,
        rejected: 0,
    };
    stories::table(&texts.iter().enumerate().map(story).collect::<Vec<_>>())
}

/// The transcripts of such a table.
///
/// # Errors
/// The table has another schema.
pub fn rows(table: &Table) -> Result<Vec<Transcript>> {
    let (id, place, turn) = (table.str("text_id")?, table.str("place")?, table.i32("turn")?);
    let (role, content) = (table.str("role")?, table.str("content")?);
    let (label, event) = (table.opt_str("label")?, table.bool("event")?);
    let of_dialogues = match table.opt_str("emotion") {
        Ok(emotion) => Some((emotion, table.opt_str("other")?, table.opt_str("topic")?)),
        Err(_) => None,
    };
    let labels = |row: usize| {
        let (emotion, other, topic) = of_dialogues?;
        Some(Labels { emotions: [emotion[row].clone()?, other[row].clone()?], topic: topic[row].clone() })
    };
    let mut transcripts: Vec<Transcript> = Vec::new();
    for row in 0..table.rows() {
        if turn[row] == 0 {
            transcripts.push(Transcript {
                id: id[row].clone(),
                place: place[row].clone(),
                turns: Vec::new(),
                label: label[row].clone(),
                event: None,
                labels: labels(row),
            });
        }
        let here = transcripts.last_mut().context("a table of texts that begins within one")?;
        let role: Role = serde_json::from_value(role[row].clone().into())?;
        if event[row] {
            here.event = Some(here.turns.len());
        }
        here.turns.push(Message::new(role, content[row].clone()));
    }
    Ok(transcripts)
}
