//! Reads the activations of one layer story by story, each with its cell (emotion and group). Independent of
//! what is computed from them.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use super::statistics::Design;
use super::statistics::grouping::{Grouping, Shared};
use super::statistics::sums::Sums;
use crate::store::table::Table;

/// The activation tables of one layer and the tables of the texts they were computed from.
#[derive(Clone, Copy)]
pub struct Shards<'a> {
    /// The number of tables of each kind.
    pub count: usize,
    /// Reads one activation table, anew on each call; schema `activations/2`.
    pub activations: &'a dyn Fn(usize) -> Result<Table>,
    /// The texts of that table, some of which may have been too short; schema `stories/1`.
    pub stories: &'a dyn Fn(usize) -> Result<Table>,
}

/// One story at one layer.
pub struct Row<'a> {
    pub id: &'a str,
    /// The emotion's index in the list.
    pub emotion: usize,
    /// Below [`MOST`](super::statistics::grouping::MOST).
    pub group: usize,
    /// The number of tokens that were pooled.
    pub tokens: f64,
    /// `[d_model]`
    pub values: &'a [f32],
}

impl Row<'_> {
    /// The values in float64.
    pub fn wide(&self) -> impl Iterator<Item = f64> {
        self.values.iter().map(|&x| f64::from(x))
    }
}

/// Calls `visit` with every story of `emotions` that `wanted` accepts, shard after shard, and returns the cells
/// that occur.
///
/// Stories on one topic form a group; so do stories from one passage of a template. Stories with neither form
/// groups of their own: see [`Grouping`].
///
/// An error if a story's text is missing from its shard's texts, or if a table cannot be read.
pub fn each(
    shards: Shards,
    emotions: &[String],
    seed: u64,
    wanted: &dyn Fn(&str) -> bool,
    visit: &mut dyn FnMut(Row) -> Result<()>,
) -> Result<Design> {
    let places: HashMap<&str, usize> = emotions.iter().enumerate().map(|(at, e)| (e.as_str(), at)).collect();
    let mut grouping = Grouping::default();
    let mut counts: Vec<f64> = Vec::new();
    for shard in 0..shards.count {
        let table = (shards.activations)(shard)?;
        if table.rows() == 0 {
            continue;
        }
        let topics = table.opt_str("topic")?;
        let passages = match topics.iter().all(Option::is_some) {
            true => HashMap::new(),
            false => passages(&(shards.stories)(shard)?)?,
        };
        let (emotion, id) = (table.opt_str("emotion")?, table.str("story_id")?);
        let (tokens, (d, values)) = (table.i32("n_tokens")?, table.list("activation")?);
        for (row, values) in values.chunks_exact(d).enumerate() {
            let label = emotion[row].as_deref().and_then(|emotion| places.get(emotion)).copied();
            let Some(emotion) = label.filter(|_| wanted(&id[row])) else { continue };
            let shared = match &topics[row] {
                Some(topic) => Shared::Topic(topic),
                None => {
                    let passage = passages.get(&id[row]);
                    let passage = passage.with_context(|| format!("no text of story {}", id[row]))?;
                    passage.map_or(Shared::Nothing, Shared::Passage)
                }
            };
            let group = grouping.place(emotion, shared);
            counts.resize(counts.len().max((group + 1) * emotions.len()), 0.0);
            counts[group * emotions.len() + emotion] += 1.0;
            visit(Row { id: &id[row], emotion, group, tokens: f64::from(tokens[row]), values })?;
        }
    }
    ensure!(!counts.is_empty(), "no story has a token at `from_token`: every one is too short");
    Ok(Design::new(emotions.len(), counts, grouping.words(), seed).named(grouping.topics()))
}

/// The sums over the stories of `emotions` in each cell.
pub fn sums(shards: Shards, emotions: &[String], seed: u64) -> Result<(Design, Sums)> {
    let mut sums = Sums::new(emotions.len());
    let add = &mut |row: Row| sums.add(row.group, row.emotion, row.values.len(), row.wide());
    let design = each(shards, emotions, seed, &|_| true, add)?;
    Ok((design, sums))
}

/// The sums over stories whose cell (group, label) is given by story name, as when the design comes from another
/// layer or model. An error if one of these stories is missing from the layer.
pub fn sums_of(shards: Shards, cells: &HashMap<&str, (usize, usize)>, labels: usize) -> Result<Sums> {
    let mut sums = Sums::new(labels);
    let mut found = 0;
    for shard in 0..shards.count {
        let table = (shards.activations)(shard)?;
        if table.rows() == 0 {
            continue;
        }
        let (d, values) = table.list("activation")?;
        for (id, values) in table.str("story_id")?.iter().zip(values.chunks_exact(d)) {
            let Some(&(group, label)) = cells.get(id.as_str()) else { continue };
            sums.add(group, label, d, values.iter().map(|&x| f64::from(x)))?;
            found += 1;
        }
    }
    ensure!(found == cells.len(), "{found} of {} stories have activations", cells.len());
    Ok(sums)
}

/// The passage of each story without a topic, if it is from a template.
fn passages(stories: &Table) -> Result<HashMap<String, Option<i32>>> {
    let (ids, writers, index) = (stories.str("story_id")?, stories.str("writer")?, stories.i32("index")?);
    let passage = |row: usize| (writers[row] == "template").then_some(index[row]);
    Ok(ids.iter().enumerate().map(|(row, id)| (id.clone(), passage(row))).collect())
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::store::table::Column;

    /// A table of activations at layer 3: (emotion, topic, values).
    pub fn table(rows: &[(&str, Option<&str>, Vec<f32>)]) -> Table {
        let width = rows.first().map_or(1, |row| row.2.len());
        let values = rows.iter().flat_map(|row| row.2.clone()).collect();
        Table::new(
            "activations/1",
            vec![
                ("story_id", Column::Str((0..rows.len()).map(|row| row.to_string()).collect())),
                ("n_tokens", Column::I32(vec![9; rows.len()])),
                ("emotion", Column::OptStr(rows.iter().map(|row| Some(row.0.to_string())).collect())),
                ("topic", Column::OptStr(rows.iter().map(|row| row.1.map(String::from)).collect())),
                ("layer", Column::I32(vec![3; rows.len()])),
                ("activation", Column::List { width, values, half: false }),
                ("token_norm", Column::F32(vec![1.0; rows.len()])),
                ("token_norm_rest", Column::F32(vec![1.0; rows.len()])),
            ],
        )
    }

    #[test]
    fn stories_have_the_cell_of_their_topic_or_of_their_passage() {
        let rows = [
            ("a", Some("rain"), vec![1.0]),
            ("b", Some("snow"), vec![2.0]),
            ("c", Some("hail"), vec![3.0]),
            ("b", None, vec![4.0]),
            ("a", None, vec![5.0]),
        ];
        let writers = ["m", "m", "m", "template", "file"];
        let texts = Table::new(
            "stories/1",
            vec![
                ("story_id", Column::Str((0..5).map(|row| row.to_string()).collect())),
                ("writer", Column::Str(writers.map(String::from).to_vec())),
                ("index", Column::I32(vec![0; 5])),
            ],
        );
        let read = |texts: &Table| {
            let shards =
                Shards { count: 1, activations: &|_| Ok(table(&rows)), stories: &|_| Ok(texts.clone()) };
            let mut found = Vec::new();
            let emotions = ["a".to_string(), "b".to_string()];
            let design = each(shards, &emotions, 0, &|id| id != "1", &mut |row| {
                found.push((row.emotion, row.group, row.values[0]));
                Ok(())
            });
            (found, design)
        };
        let (found, design) = read(&texts);
        assert_eq!(found, [(0, 0, 1.0), (1, 1, 4.0), (0, 2, 5.0)]);
        let design = design.unwrap();
        assert_eq!(design.counts(), [1.0, 0.0, 0.0, 1.0, 1.0, 0.0]);
        assert_eq!(design.grouped(), "1 topics and 1 passages and 1 stories an emotion, each by itself");
        let error = read(&texts.select(&[0])).1.unwrap_err().to_string();
        assert!(error.contains("no text of story 3"), "{error}");
    }
}
