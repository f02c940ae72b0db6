//! Requests for stories, and the judging and keeping of replies, for any writer. Independent of models and servers: it
//! produces the requests, receives the replies, and returns the accepted stories.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::likeness::Shingles;
use super::refusal::declines;
use super::splitting::{self, Pieces};
use super::thought;
use super::{Generate, Item, Story, hash_part, names_emotion, story_id, table};
use crate::stages::texts::dialogues::{asks_for_scenario, is_dialogue, spoken};
use crate::store::table::{Column, Table};

/// The schema of replies that are kept until their shard is stored, each with its request.
pub const REPLIES: &str = "stories.answer/2";

/// The inputs of a story's seed, besides its place and the attempt.
#[derive(Clone, Debug)]
pub struct Seeds {
    /// The experiment's seed.
    pub run: u64,
    /// The writer's cache key, which depends on its content, not its name.
    pub writer: String,
}

impl Seeds {
    /// The first 64 bits, little-endian, of the SHA-256 of run seed, writer's key, emotion, topic, index and attempt,
    /// and for a dialogue its second emotion.
    fn seed(&self, item: &Item, attempt: usize) -> u64 {
        let (run, index, attempt) = (self.run.to_string(), item.index.to_string(), attempt.to_string());
        let mut hasher = Sha256::new();
        let place = [item.emotion.as_deref(), item.topic.as_deref(), Some(&index), Some(&attempt)];
        for part in [Some(run.as_str()), Some(self.writer.as_str())].into_iter().chain(place) {
            hash_part(&mut hasher, part);
        }
        if let Some(other) = &item.other {
            hash_part(&mut hasher, Some(other));
        }
        let digest = hasher.finalize();
        u64::from_le_bytes(digest[..8].try_into().expect("a digest has eight bytes"))
    }
}

/// Every story of the source in order: by emotion, then by topic, `per_topic` of each; `None`: neutral text.
pub fn items(params: &Generate, emotions: Option<&[String]>) -> Vec<Item> {
    let emotions: Vec<Option<&String>> = match emotions {
        None => vec![None],
        Some(words) => words.iter().map(Some).collect(),
    };
    let mut items = Vec::with_capacity(emotions.len() * params.topics.len() * params.per_topic);
    for emotion in emotions {
        for topic in &params.topics {
            for index in 0..params.per_topic {
                items.push(Item {
                    emotion: emotion.cloned(),
                    other: None,
                    topic: Some(topic.clone()),
                    index,
                });
            }
        }
    }
    items
}

/// A request for one or several stories of one emotion and topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The requested stories, as indices into the draft's items; never empty.
    pub places: Vec<usize>,
    pub prompt: String,
    /// The seed of its first story in this attempt.
    pub seed: u64,
    /// Its index among all requests of the draft, over all attempts; from 0.
    pub number: usize,
}

impl Ask {
    /// The SHA-256 of the request.
    fn fingerprint(&self) -> String {
        let mut hasher = Sha256::new();
        for part in [&self.prompt, &self.seed.to_string(), &format!("{:?}", self.places)] {
            hash_part(&mut hasher, Some(part));
        }
        hex::encode(hasher.finalize())
    }
}

/// A writer's reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub text: String,
    pub end: End,
}

/// How a reply ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The writer ended it.
    Whole,
    /// The limit on tokens was reached.
    Cut,
    /// A server's filter stopped it or refused the request; its text is not a story.
    Filtered,
}

impl End {
    const NAMES: [(End, &'static str); 3] =
        [(End::Whole, "whole"), (End::Cut, "cut"), (End::Filtered, "filtered")];

    /// The spelling in tables.
    pub fn name(self) -> &'static str {
        End::NAMES.iter().find(|(end, _)| *end == self).expect("every end has a name").1
    }

    /// The end with this name.
    pub fn of(name: &str) -> Option<End> {
        End::NAMES.iter().find(|(_, known)| *known == name).map(|(end, _)| *end)
    }
}

impl Reply {
    /// The replies to `asks` as a table (schema [`REPLIES`]).
    pub fn table(asks: &[Ask], replies: &[Reply]) -> Table {
        let asked = Column::Str(asks.iter().map(Ask::fingerprint).collect());
        let texts = Column::Str(replies.iter().map(|reply| reply.text.clone()).collect());
        let ends = Column::Str(replies.iter().map(|reply| reply.end.name().to_string()).collect());
        Table::new(REPLIES, vec![("asked", asked), ("text", texts), ("end", ends)])
    }

    /// The replies in such a table, if they answer exactly `asks`. The requests of a later attempt depend on the
    /// replies of earlier ones: if one of these was lost and answered differently, a different request may have the
    /// number of the kept reply.
    pub fn rows(table: &Table, asks: &[Ask]) -> Option<Vec<Reply>> {
        let (asked, texts, ends) =
            (table.str("asked").ok()?, table.str("text").ok()?, table.str("end").ok()?);
        if !asks.iter().map(Ask::fingerprint).eq(asked.iter().cloned()) {
            return None;
        }
        let rows = texts.iter().zip(ends);
        rows.map(|(text, end)| Some(Reply { text: text.clone(), end: End::of(end)? })).collect()
    }
}

/// Why a text was rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no text; the whole reply is recorded, which may have contained other things.
    Empty,
    /// The reply is reasoning only: see [`thought::answer`].
    Thought,
    /// A server's filter stopped it, or refused the request.
    Filtered,
    /// The writer declines: see [`declines`].
    Refusal,
    /// It names its emotion: see [`names_emotion`].
    NamesEmotion,
    /// It should be a dialogue and is not one: see [`is_dialogue`].
    NoDialogue,
    TooShort,
    /// It is too similar to an earlier accepted story of the draft.
    NearDuplicate,
    /// The last text of a reply that reached the limit on tokens: one of several, or any if `cut` is set.
    Cut,
    /// The reply had more texts than requested.
    Surplus,
}

impl Reason {
    /// The spelling in the table.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Empty => "empty",
            Reason::Thought => "thought",
            Reason::Filtered => "filtered",
            Reason::Refusal => "refusal",
            Reason::NamesEmotion => "names_emotion",
            Reason::NoDialogue => "no_dialogue",
            Reason::TooShort => "too_short",
            Reason::NearDuplicate => "near_duplicate",
            Reason::Cut => "cut",
            Reason::Surplus => "surplus",
        }
    }
}

/// A rejected text.
struct Rejected {
    /// The index of its item; for a surplus text, that of the first story of its request.
    place: usize,
    attempt: usize,
    reason: Reason,
    text: String,
    seed: u64,
}

/// The result of a draft.
#[derive(Debug, PartialEq)]
pub struct Written {
    /// Schema `stories/1`, in the order of the items; items without an accepted attempt are missing.
    pub stories: Table,
    /// Schema `rejected/1`, in the order in which they were judged.
    pub rejected: Table,
}

/// The stories of a shard while they are being written; they are requested, judged and stored together.
///
/// For each attempt, from 0: [`asks`](Draft::asks), then [`take`](Draft::take) for the reply to each of the requests
/// *in their order*, in whatever order replies arrive. The outcome is then a function of the replies alone.
pub struct Draft<'a> {
    params: &'a Generate,
    items: &'a [Item],
    seeds: &'a Seeds,
    writer: &'a str,
    stories: Vec<Option<Story>>,
    /// Shingles of the accepted stories, if near copies are rejected.
    accepted: Vec<Shingles>,
    rejected: Vec<Rejected>,
    /// The number of requests so far.
    asked: usize,
}

impl<'a> Draft<'a> {
    /// An empty draft. `writer`: as in the table.
    pub fn new(params: &'a Generate, items: &'a [Item], seeds: &'a Seeds, writer: &'a str) -> Draft<'a> {
        let stories = vec![None; items.len()];
        Draft { params, items, seeds, writer, stories, accepted: Vec::new(), rejected: Vec::new(), asked: 0 }
    }

    /// The requests of this attempt: every story that is still missing, in order; consecutive stories of one emotion
    /// and topic share a request, up to `per_reply` of them. Empty when all stories are accepted.
    pub fn asks(&mut self, attempt: usize) -> Vec<Ask> {
        let per_reply = self.params.per_reply();
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for place in (0..self.items.len()).filter(|&place| self.stories[place].is_none()) {
            let item = &self.items[place];
            let fits = |group: &&mut Vec<usize>| {
                let first = &self.items[group[0]];
                group.len() < per_reply
                    && (&first.emotion, &first.other, &first.topic)
                        == (&item.emotion, &item.other, &item.topic)
            };
            match groups.last_mut().filter(fits) {
                Some(group) => group.push(place),
                None => groups.push(vec![place]),
            }
        }
        let first = self.asked;
        self.asked += groups.len();
        let asks = groups.into_iter().enumerate().map(|(at, places)| {
            let item = &self.items[places[0]];
            let prompt = prompt(self.params, item, places.len());
            Ask { prompt, seed: self.seeds.seed(item, attempt), number: first + at, places }
        });
        asks.collect()
    }

    /// Judges the reply to `ask`: each of its texts becomes a story or is recorded as rejected. `tokens` counts the
    /// tokens of a text.
    ///
    /// # Errors
    /// Those of `tokens`, with the story's emotion, topic and number.
    pub fn take(
        &mut self,
        attempt: usize,
        ask: &Ask,
        reply: &Reply,
        tokens: &dyn Fn(&str) -> Result<usize>,
    ) -> Result<()> {
        let mut reject = |place: usize, reason: Reason, text: String| {
            self.rejected.push(Rejected { place, attempt, reason, text, seed: ask.seed });
        };
        let answer = thought::answer(&reply.text);
        let Some(text) = answer.filter(|_| reply.end != End::Filtered) else {
            let reason = if reply.end == End::Filtered { Reason::Filtered } else { Reason::Thought };
            reject(ask.places[0], reason, reply.text.trim().to_string());
            return Ok(());
        };
        let mut pieces = match &self.params.several {
            None => Pieces { texts: vec![splitting::introduced(text).to_string()], ended: false },
            Some(several) => splitting::split(text, &several.separator),
        };
        if pieces.texts.iter().all(String::is_empty) {
            reject(ask.places[0], Reason::Empty, reply.text.trim().to_string());
            return Ok(());
        }
        let cut = reply.end == End::Cut && !pieces.ended;
        if cut && (pieces.texts.len() > 1 || self.params.reject.cut) {
            let place = ask.places.get(pieces.texts.len() - 1).unwrap_or(&ask.places[0]);
            reject(*place, Reason::Cut, pieces.texts.pop().expect("there is one"));
        }
        for text in pieces.texts.split_off(ask.places.len().min(pieces.texts.len())) {
            reject(ask.places[0], Reason::Surplus, text);
        }
        for (&place, text) in ask.places.iter().zip(pieces.texts) {
            let item = &self.items[place];
            let shingles = self.params.reject.near_duplicate.map(|_| Shingles::of(&text));
            if let Some(reason) = self.fault(item, &text, shingles.as_ref(), tokens)? {
                self.rejected.push(Rejected { place, attempt, reason, text, seed: ask.seed });
                continue;
            }
            self.accepted.extend(shingles);
            self.stories[place] = Some(Story {
                story_id: story_id(item.emotion.as_deref(), item.topic.as_deref(), item.index, &text),
                emotion: item.emotion.clone(),
                other: item.other.clone(),
                topic: item.topic.clone(),
                index: item.index,
                text,
                writer: self.writer.to_string(),
                prompt: Some(ask.prompt.clone()),
                seed: Some(ask.seed),
                rejected: attempt,
            });
        }
        Ok(())
    }

    /// The first reason to reject a text, if any.
    fn fault(
        &self,
        item: &Item,
        text: &str,
        shingles: Option<&Shingles>,
        tokens: &dyn Fn(&str) -> Result<usize>,
    ) -> Result<Option<Reason>> {
        let reject = &self.params.reject;
        if reject.refusals && declines(text) {
            return Ok(Some(Reason::Refusal));
        }
        if item.other.is_some() && !is_dialogue(text, asks_for_scenario(&self.params.prompt)) {
            return Ok(Some(Reason::NoDialogue));
        }
        if reject.names_emotion {
            // The scenario before a dialogue may state the feelings.
            let said = if item.other.is_some() { spoken(text) } else { text.to_string() };
            if item.emotion.iter().chain(&item.other).any(|emotion| names_emotion(&said, emotion)) {
                return Ok(Some(Reason::NamesEmotion));
            }
        }
        if tokens(text).with_context(|| name(item))? < reject.min_tokens {
            return Ok(Some(Reason::TooShort));
        }
        let alike = reject.near_duplicate.zip(shingles).is_some_and(|(least, shingles)| {
            self.accepted.iter().any(|earlier| earlier.jaccard(shingles) >= least)
        });
        Ok(alike.then_some(Reason::NearDuplicate))
    }

    /// The number of accepted stories.
    pub fn settled(&self) -> usize {
        self.stories.iter().flatten().count()
    }

    /// The first story that `ask` requests, for people.
    pub fn name(&self, ask: &Ask) -> String {
        name(&self.items[ask.places[0]])
    }

    /// The accepted stories and the rejected texts.
    pub fn written(self) -> Written {
        let stories: Vec<Story> = self.stories.into_iter().flatten().collect();
        let (items, rows) = (self.items, &self.rejected);
        let ints = |f: fn(&Rejected, &Item) -> usize| {
            Column::I32(rows.iter().map(|row| f(row, &items[row.place]) as i32).collect())
        };
        let options = |f: fn(&Item) -> &Option<String>| {
            Column::OptStr(rows.iter().map(|row| f(&items[row.place]).clone()).collect())
        };
        let rejected = Table::new(
            "rejected/1",
            vec![
                ("emotion", options(|item| &item.emotion)),
                ("topic", options(|item| &item.topic)),
                ("index", ints(|_, item| item.index)),
                ("attempt", ints(|row, _| row.attempt)),
                ("reason", Column::Str(rows.iter().map(|row| row.reason.name().to_string()).collect())),
                ("text", Column::Str(rows.iter().map(|row| row.text.clone()).collect())),
                ("seed", Column::OptI64(rows.iter().map(|row| Some(row.seed as i64)).collect())),
            ],
        );
        Written { stories: table(&stories), rejected }
    }
}

/// The text of a request for `count` stories, the first of which is `item`.
///
/// `{person}` alternates from request to request of an emotion and topic, so that half of the stories are told in
/// either person.
fn prompt(params: &Generate, item: &Item, count: usize) -> String {
    let topic = item.topic.as_deref().unwrap_or_default();
    let person = match (item.index / params.per_reply()) % 2 {
        0 => "first person",
        _ => "third person",
    };
    // The topic is filled in last: it may contain braces of its own, an emotion's word may not.
    super::template::filled(
        &params.prompt,
        item.emotion.as_deref().unwrap_or_default(),
        item.other.as_deref(),
    )
    .replace("{person}", person)
    .replace("{count}", &count.to_string())
    .replace("{topic}", topic)
}

/// A story's emotion, topic and number, for people.
fn name(item: &Item) -> String {
    let emotion = item.emotion.as_deref().unwrap_or("neutral");
    format!("story {} of `{emotion}` about `{}`", item.index, item.topic.as_deref().unwrap_or_default())
}

#[cfg(test)]
#[path = "writing_tests.rs"]
mod tests;
