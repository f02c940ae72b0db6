//! Which stories belong together, so that they are resampled, shuffled and held out together: those of a topic, or of a
//! passage. Knows nothing of what is computed from them.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use super::Activations;
use crate::store::table::Table;

/// More groups than this are merged: the group of number `n` is part of group `n % MOST`. Resampling a hundred is enough,
/// and memory is bounded.
pub const MOST: usize = 100;

/// One story at one layer.
pub struct Row<'a> {
    /// The emotion's place in the list.
    pub emotion: usize,
    /// Below [`MOST`].
    pub group: usize,
    /// Over how many of its tokens was pooled.
    pub tokens: f64,
    /// `[d_model]`
    pub values: &'a [f32],
}

/// What groups are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Counts {
    topics: usize,
    passages: usize,
    rounds: usize,
}

/// What makes a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Name {
    Topic(String),
    /// Of a template.
    Passage(i32),
    /// Stories without a topic stand alone. The first of each emotion are one group, the second ones another, ...: as
    /// they have nothing in common, that ties nothing together, and labels can be shuffled within groups.
    Round(usize),
}

/// Calls `visit` with every story of `emotions`, shard after shard, and says in words what the groups are: `8 topics`.
///
/// An error if a story's text is not among those of its shard, or that of a table that cannot be read.
pub fn each(
    activations: &Activations,
    emotions: &[String],
    visit: &mut dyn FnMut(Row) -> Result<()>,
) -> Result<String> {
    let places: HashMap<&str, usize> = emotions.iter().enumerate().map(|(at, e)| (e.as_str(), at)).collect();
    let mut groups: HashMap<Name, usize> = HashMap::new();
    let mut counts = Counts::default();
    let mut rounds = vec![0; emotions.len()];
    for shard in 0..activations.shards {
        let table = (activations.read)(shard)?;
        if table.rows() == 0 {
            continue;
        }
        let topics = table.opt_str("topic")?;
        let passages = match topics.iter().all(Option::is_some) {
            true => HashMap::new(),
            false => passages(&(activations.stories)(shard)?)?,
        };
        let (emotion, id) = (table.opt_str("emotion")?, table.str("story_id")?);
        let (tokens, (d, values)) = (table.i32("n_tokens")?, table.list("activation")?);
        for (row, values) in values.chunks_exact(d).enumerate() {
            let Some(&emotion) = emotion[row].as_deref().and_then(|emotion| places.get(emotion)) else {
                continue;
            };
            let name = match &topics[row] {
                Some(topic) => Name::Topic(topic.clone()),
                None => {
                    let passage = passages.get(&id[row]);
                    match passage.with_context(|| format!("no text of story {}", id[row]))? {
                        Some(passage) => Name::Passage(*passage),
                        None => {
                            rounds[emotion] += 1;
                            Name::Round(rounds[emotion])
                        }
                    }
                }
            };
            let next = groups.len();
            let group = *groups.entry(name.clone()).or_insert_with(|| {
                match name {
                    Name::Topic(_) => counts.topics += 1,
                    Name::Passage(_) => counts.passages += 1,
                    Name::Round(_) => counts.rounds += 1,
                }
                next
            });
            visit(Row { emotion, group: group % MOST, tokens: f64::from(tokens[row]), values })?;
        }
    }
    ensure!(!groups.is_empty(), "no story has a token at `from_token`: every one is too short");
    Ok(counts.words())
}

impl Counts {
    fn words(self) -> String {
        let some = |n: usize, what: &str| (n > 0).then(|| format!("{n} {what}"));
        let parts = [
            some(self.topics, "topics"),
            some(self.passages, "passages"),
            some(self.rounds, "stories an emotion, each by itself"),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        let all = self.topics + self.passages + self.rounds;
        let merged = if all > MOST { format!(", merged into {MOST} groups") } else { String::new() };
        format!("{}{merged}", parts.join(" and "))
    }
}

/// Of each story without a topic its passage, where it is of a template.
fn passages(stories: &Table) -> Result<HashMap<String, Option<i32>>> {
    let (ids, writers, index) = (stories.str("story_id")?, stories.str("writer")?, stories.i32("index")?);
    let passage = |row: usize| (writers[row] == "template").then_some(index[row]);
    Ok(ids.iter().enumerate().map(|(row, id)| (id.clone(), passage(row))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stages::vectors::{Center, Denoise, Params};
    use crate::store::table::Column;

    /// Of each story id, emotion, topic, writer and index the group that it is in, and what the groups are.
    fn groups(rows: &[(&str, &str, Option<&str>, &str, i32)]) -> Result<(Vec<usize>, String)> {
        let strings = |f: fn(&(&str, &str, Option<&str>, &str, i32)) -> String| {
            Column::Str(rows.iter().map(f).collect())
        };
        let n = rows.len();
        let read = Table::new(
            "activations/1",
            vec![
                ("story_id", strings(|r| r.0.into())),
                ("emotion", Column::OptStr(rows.iter().map(|r| Some(r.1.into())).collect())),
                ("topic", Column::OptStr(rows.iter().map(|r| r.2.map(String::from)).collect())),
                ("layer", Column::I32(vec![0; n])),
                ("n_tokens", Column::I32(vec![9; n])),
                ("activation", Column::List { width: 1, values: vec![0.0; n], half: false }),
            ],
        );
        let texts = Table::new(
            "stories/1",
            vec![
                ("story_id", strings(|r| r.0.into())),
                ("writer", strings(|r| r.3.into())),
                ("index", Column::I32(rows.iter().map(|r| r.4).collect())),
            ],
        );
        let activations = Activations {
            shards: 1,
            read: &|_| Ok(read.clone()),
            stories: &|_| Ok(texts.clone()),
            params: &Params { center: Center::Emotions, denoise: Denoise::None, normalize: false },
            neutral: None,
        };
        let mut found = Vec::new();
        let words = each(&activations, &["a".to_string(), "b".to_string()], &mut |row| {
            found.push(row.group);
            Ok(())
        })?;
        Ok((found, words))
    }

    #[test]
    fn topics_passages_and_stories_without_either() {
        let rows = [
            ("1", "a", None, "template", 0),
            ("2", "a", None, "template", 1),
            ("3", "b", None, "template", 0),
            ("4", "b", None, "template", 1),
        ];
        assert_eq!(groups(&rows).unwrap(), (vec![0, 1, 0, 1], "2 passages".to_string()));
        let rows = [
            ("1", "a", Some("rain"), "m", 0),
            ("2", "b", Some("snow"), "m", 0),
            ("3", "b", Some("rain"), "m", 1),
            ("4", "c", Some("hail"), "m", 1),
        ];
        assert_eq!(groups(&rows).unwrap(), (vec![0, 1, 0], "2 topics".to_string()));
        let rows = [
            ("1", "b", None, "file", 7),
            ("2", "a", None, "file", 8),
            ("3", "a", None, "file", 9),
            ("4", "a", Some("rain"), "file", 10),
        ];
        let words = "1 topics and 2 stories an emotion, each by itself";
        assert_eq!(groups(&rows).unwrap(), (vec![0, 0, 1, 2], words.to_string()));
    }

    #[test]
    fn more_groups_than_can_be_held_are_merged() {
        let names: Vec<String> = (0..MOST + 2).map(|i| i.to_string()).collect();
        let rows: Vec<_> =
            names.iter().map(|name| (name.as_str(), "a", Some(name.as_str()), "m", 0)).collect();
        let (found, words) = groups(&rows).unwrap();
        assert_eq!(found[MOST - 1..], [MOST - 1, 0, 1]);
        assert_eq!(words, "102 topics, merged into 100 groups");
    }
}
