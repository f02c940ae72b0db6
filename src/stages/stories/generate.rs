//! Stories written by a model, rejected and written again. Knows neither the plan nor the writer's checkpoint.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use super::{Generate, Item, Story, hash_part, names_emotion, rows, story_id, table};
use crate::lm::{Chat, LanguageModel, Sampling};
use crate::stages::batches::{self, Batches};
use crate::store::table::{Column, Table};

/// Raised when the same model and seeds would give other stories.
pub const VERSION: u32 = 3;

/// Sequences written side by side. A constant: batches change low bits, so they may hang on nothing but the plan.
pub const BATCH: usize = 128;

/// The table of a batch: a stories table, and the place of each among the items.
const KEPT: &str = "stories.batch/1";

/// What a story's seed comes from, besides its place and the attempt.
#[derive(Clone, Debug)]
pub struct Seeds {
    /// The experiment's seed.
    pub run: u64,
    /// The writer's key: its content, not its name.
    pub writer: String,
}

impl Seeds {
    /// The first 64 bits, little-endian, of the SHA-256 of run seed, writer's key, emotion, topic, index and attempt.
    fn seed(&self, item: &Item, attempt: usize) -> u64 {
        let (run, index, attempt) = (self.run.to_string(), item.index.to_string(), attempt.to_string());
        let mut hasher = Sha256::new();
        let place = [item.emotion.as_deref(), item.topic.as_deref(), Some(&index), Some(&attempt)];
        for part in [Some(run.as_str()), Some(self.writer.as_str())].into_iter().chain(place) {
            hash_part(&mut hasher, part);
        }
        let digest = hasher.finalize();
        u64::from_le_bytes(digest[..8].try_into().expect("a digest has eight bytes"))
    }
}

/// Every story of the source in order: emotion after emotion, topic after topic, `per_topic` of each; `None`:
/// neutral text.
pub fn items(params: &Generate, emotions: Option<&[String]>) -> Vec<Item> {
    let emotions: Vec<Option<&String>> = match emotions {
        None => vec![None],
        Some(words) => words.iter().map(Some).collect(),
    };
    let mut items = Vec::with_capacity(emotions.len() * params.topics.len() * params.per_topic);
    for emotion in emotions {
        for topic in &params.topics {
            for index in 0..params.per_topic {
                items.push(Item { emotion: emotion.cloned(), topic: Some(topic.clone()), index });
            }
        }
    }
    items
}

/// The stories of `items`, in their order, written by `model`.
///
/// Through the chat template where the model has one, which is told `chat`; else from the bare prompt. A template
/// without a system turn gets `system` at the beginning of the user's, with a blank line after it. What `reject` refuses is written
/// again with another seed, all refused stories together, up to `reject.attempts` times in all; a story that no
/// attempt brought is left out of the table, so fewer rows than items tell how many are missing. `batches` is told
/// how many stories are settled or being settled, and keeps of each batch what was not refused.
///
/// An error if the template refuses the request, or if a prompt does not fit the model's context.
pub fn run(
    params: &Generate,
    items: &[Item],
    model: &LanguageModel,
    chat: Chat,
    writer: &str,
    seeds: &Seeds,
    batches: &mut dyn Batches,
) -> Result<Table> {
    let sampling = Sampling {
        max_new_tokens: params.max_new_tokens,
        temperature: params.temperature,
        top_k: params.top_k,
        top_p: params.top_p,
    };
    let mut stories: Vec<Option<Story>> = vec![None; items.len()];
    let mut open: Vec<usize> = (0..items.len()).collect();
    let mut number = 0;
    for attempt in 0..params.reject.attempts.max(1) {
        for places in std::mem::take(&mut open).chunks(BATCH) {
            let settled = stories.iter().flatten().count();
            let kept = batches::batch(
                batches,
                number,
                KEPT,
                |_| true,
                |batches| {
                    let requests = places.iter().map(|&at| request(params, &items[at], model, chat));
                    let requests = requests.collect::<Result<Vec<_>>>()?;
                    let drawn: Vec<u64> = places.iter().map(|&at| seeds.seed(&items[at], attempt)).collect();
                    let written = model
                        .generate(&requests, &sampling, &drawn, &mut [], &mut |ended| {
                            batches.at(settled + ended, items.len())
                        })
                        .with_context(|| {
                            format!("{writer} writes stories from {}", name(&items[places[0]]))
                        })?;
                    let mut kept = Vec::new();
                    for ((&at, ids), seed) in places.iter().zip(written).zip(drawn) {
                        let item = &items[at];
                        let text = model.decode(&ids).with_context(|| name(item))?.trim().to_string();
                        if refused(params, item, &text, model).with_context(|| name(item))? {
                            continue;
                        }
                        let (emotion, topic) = (item.emotion.as_deref(), item.topic.as_deref());
                        let story = Story {
                            story_id: story_id(emotion, topic, item.index, &text),
                            emotion: item.emotion.clone(),
                            topic: item.topic.clone(),
                            index: item.index,
                            text,
                            writer: writer.to_string(),
                            prompt: Some(prompt(params, item)),
                            seed: Some(seed),
                            rejected: attempt,
                        };
                        kept.push((at, story));
                    }
                    Ok(with_places(kept))
                },
            )?;
            number += 1;
            for (&at, story) in kept.i32("place")?.iter().zip(rows(&kept)?) {
                let place = usize::try_from(at).ok().and_then(|at| stories.get_mut(at));
                *place.with_context(|| format!("a story at place {at} of {}", items.len()))? = Some(story);
            }
            open.extend(places.iter().filter(|&&at| stories[at].is_none()));
            batches.at(stories.iter().flatten().count(), items.len());
        }
    }
    batches.at(items.len(), items.len());
    Ok(table(&stories.into_iter().flatten().collect::<Vec<_>>()))
}

/// A batch's table: the stories that were not refused.
fn with_places(kept: Vec<(usize, Story)>) -> Table {
    let (places, stories): (Vec<i32>, Vec<Story>) = kept.into_iter().map(|(at, s)| (at as i32, s)).unzip();
    let mut table = table(&stories);
    table.schema = KEPT.to_string();
    table.columns.push(("place".to_string(), Column::I32(places)));
    table
}

/// The request in words.
fn prompt(params: &Generate, item: &Item) -> String {
    let topic = item.topic.as_deref().unwrap_or_default();
    // The topic last: it may hold braces of its own, an emotion's word may not.
    super::template::fill(&params.prompt, item.emotion.as_deref().unwrap_or_default())
        .replace("{topic}", topic)
}

/// The request as tokens.
fn request(params: &Generate, item: &Item, model: &LanguageModel, chat: Chat) -> Result<Vec<i64>> {
    let prompt = prompt(params, item);
    if !model.has_chat_template() {
        return Ok(model.encode(&prompt).with_context(|| name(item))?.ids);
    }
    model.encode_request(&params.system, &prompt, chat).with_context(|| name(item))
}

/// Whether a text is thrown away: it is empty, too short, or names its emotion.
fn refused(params: &Generate, item: &Item, text: &str, model: &LanguageModel) -> Result<bool> {
    let named = item.emotion.as_deref().is_some_and(|emotion| names_emotion(text, emotion));
    if text.is_empty() || (params.reject.names_emotion && named) {
        return Ok(true);
    }
    Ok(model.encode(text)?.text.len() < params.reject.min_tokens)
}

/// A story's place for people.
fn name(item: &Item) -> String {
    let emotion = item.emotion.as_deref().unwrap_or("neutral");
    format!("story {} of `{emotion}` about `{}`", item.index, item.topic.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::stories::Reject;

    fn params() -> Generate {
        Generate {
            topics: vec!["a {odd} bus".into(), "rain".into()],
            per_topic: 2,
            max_new_tokens: 8,
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            prompt: "About {topic}: a {emotion} person.".into(),
            system: String::new(),
            reject: Reject { names_emotion: true, min_tokens: 0, attempts: 2 },
        }
    }

    #[test]
    fn items_go_emotion_by_emotion_and_fill_the_prompt() {
        let emotions = ["sad".to_string(), "angry".to_string()];
        let items = items(&params(), Some(&emotions));
        let places: Vec<_> = items.iter().map(|i| (i.emotion.as_deref().unwrap(), i.index)).collect();
        assert_eq!(places[..5], [("sad", 0), ("sad", 1), ("sad", 0), ("sad", 1), ("angry", 0)]);
        assert_eq!(prompt(&params(), &items[4]), "About a {odd} bus: an angry person.");
        assert_eq!(super::items(&params(), None).len(), 4);
    }

    #[test]
    fn seeds_differ_in_every_part_and_stay_the_same() {
        let item = |emotion: Option<&str>, topic: &str, index| Item {
            emotion: emotion.map(String::from),
            topic: Some(topic.into()),
            index,
        };
        let seeds = |run, writer: &str| Seeds { run, writer: writer.into() };
        let base = seeds(1, "w").seed(&item(Some("sad"), "rain", 0), 0);
        let others = [
            seeds(2, "w").seed(&item(Some("sad"), "rain", 0), 0),
            seeds(1, "v").seed(&item(Some("sad"), "rain", 0), 0),
            seeds(1, "w").seed(&item(Some("glad"), "rain", 0), 0),
            seeds(1, "w").seed(&item(None, "rain", 0), 0),
            seeds(1, "w").seed(&item(Some("sad"), "sun", 0), 0),
            seeds(1, "w").seed(&item(Some("sad"), "rain", 1), 0),
            seeds(1, "w").seed(&item(Some("sad"), "rain", 0), 1),
        ];
        assert!(others.iter().all(|seed| *seed != base));
        // Python: int.from_bytes(sha256(b"".join(b"\x01" + len(p).to_bytes(8, "little") + p
        //     for p in [b"1", b"w", b"sad", b"rain", b"0", b"0"])).digest()[:8], "little")
        assert_eq!(base, 3_873_946_500_096_731_043);
    }
}
