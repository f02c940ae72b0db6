//! Pooled spans of conversations at one layer with what is known of each conversation: vectors of any span by any label. Knows
//! nothing of what spans and labels mean.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use super::Spans;
use crate::lm::Layer;
use crate::params::{Problem, Read, Reader};
use crate::stages::principal::cosine;
use crate::stages::statistics::Design;
use crate::stages::statistics::design::{Shuffle, Weights};
use crate::stages::statistics::interval::mean;
use crate::stages::statistics::sums::Sums;
use crate::stages::texts::Pairing;
use crate::stages::vectors;

/// One of `[dialogues]`, of the kind `speakers`.
pub fn of_speakers(reader: &Reader<'_>, name: &str) -> Read<String> {
    dialogues(reader, name, Pairing::Speakers)
}

/// One of the kind `deflection`.
pub fn of_deflection(reader: &Reader<'_>, name: &str) -> Read<String> {
    dialogues(reader, name, Pairing::Deflection)
}

fn dialogues(reader: &Reader<'_>, name: &str, wanted: Pairing) -> Read<String> {
    let written = reader.filled(name)?;
    let Some(source) = reader.scope.file.find(&["dialogues", &written]) else {
        let names: Vec<String> = reader.scope.names("dialogues").map(|name| format!("`{name}`")).collect();
        let hint = match names.is_empty() {
            true => "say how they are written or where they are: `[dialogues.NAME.generate]`".to_string(),
            false => format!("there are {}", names.join(", ")),
        };
        let problem = Problem::at(reader.span_of(name), format!("there are no dialogues `{written}`"));
        return reader.wrong(problem.hint(hint));
    };
    // What is wrong with the table itself is told there.
    let kind = source.entries().first().and_then(|entry| entry.node.find(&["kind"])?.text());
    let kind = kind.unwrap_or("speakers");
    let wanted = match wanted {
        Pairing::Speakers => "speakers",
        Pairing::Deflection => "deflection",
    };
    if kind == wanted {
        return Ok(written);
    }
    let problem =
        Problem::at(reader.span_of(name), format!("the dialogues `{written}` are of the kind `{kind}`"));
    reader.wrong(problem.hint(format!("this analysis reads such with `kind = \"{wanted}\"`")))
}

/// The mean over labels of the cosine between two sets' vectors of the same one, each `[label, d]`.
pub fn likeness(a: &[f64], b: &[f64], d: usize) -> f64 {
    let cosines: Vec<f64> = a.chunks_exact(d).zip(b.chunks_exact(d)).map(|(a, b)| cosine(a, b)).collect();
    mean(&cosines)
}

/// Conversations with their spans at one layer.
pub struct Labelled {
    pub d: usize,
    pub emotions: Vec<String>,
    pub rows: Vec<Row>,
    /// Groups of conversations: their topics. Those without one are a group together.
    pub groups: usize,
    /// Conversations with an emotion that is none of the experiment's: left out.
    pub skipped: usize,
}

/// One of them.
pub struct Row {
    pub group: usize,
    /// The places of its two emotions.
    pub labels: [usize; 2],
    /// `[d]` of each span that was asked for.
    pub spans: Vec<Vec<f32>>,
}

/// The sums of one span by one label, and the cells that they are of.
pub struct BySpan {
    pub design: Design,
    pub sums: Sums,
}

impl Labelled {
    /// Those of `spans` at a layer that have emotions of the experiment.
    ///
    /// # Errors
    /// None is there; a conversation that lacks one of `names`, as tables never do.
    pub fn gather(spans: &Spans, layer: Layer, emotions: &[String], names: &[&str]) -> Result<Labelled> {
        let places: HashMap<&str, usize> =
            emotions.iter().enumerate().map(|(at, e)| (e.as_str(), at)).collect();
        let mut found =
            Labelled { d: 0, emotions: emotions.to_vec(), rows: Vec::new(), groups: 0, skipped: 0 };
        let mut groups: HashMap<Option<String>, usize> = HashMap::new();
        for shard in 0..spans.count {
            let table = (spans.read)(shard)?;
            let (id, of, span) = (table.str("text_id")?, table.i32("layer")?, table.str("span")?);
            let (emotion, other) = (table.opt_str("emotion")?, table.opt_str("other")?);
            let (topic, (d, values)) = (table.opt_str("topic")?, table.list("activation")?);
            found.d = d;
            let mut from = 0;
            while from < id.len() {
                let more = id[from..].iter().take_while(|other| **other == id[from]).count();
                let here: Vec<usize> = (from..from + more).filter(|&row| of[row] == layer.number()).collect();
                let at = |word: &Option<String>| word.as_deref().and_then(|word| places.get(word)).copied();
                from += more;
                let row = *here.first().context("a conversation without the layer")?;
                let (Some(first), Some(second)) = (at(&emotion[row]), at(&other[row])) else {
                    found.skipped += 1;
                    continue;
                };
                let wanted = names.iter().map(|name| {
                    let row = here.iter().find(|&&row| span[row] == *name).context("a span is not there")?;
                    Ok(values[row * d..(row + 1) * d].to_vec())
                });
                let wanted = wanted.collect::<Result<_>>()?;
                let next = groups.len();
                let group = *groups.entry(topic[row].clone()).or_insert(next);
                found.rows.push(Row { group, labels: [first, second], spans: wanted });
            }
        }
        found.groups = groups.len();
        ensure!(
            !found.rows.is_empty(),
            "no dialogue has two of the experiment's emotions; {} have others",
            found.skipped
        );
        Ok(found)
    }

    /// What the groups are.
    pub fn grouped(&self) -> String {
        format!("{} topics", self.groups)
    }

    /// The sums of the span at `span`, counted from `origin`, by the label that `label` gives each row.
    pub fn sums(
        &self,
        span: usize,
        origin: &[f64],
        seed: u64,
        label: impl Fn(&Row) -> usize,
    ) -> Result<BySpan> {
        let n = self.emotions.len();
        let mut counts = vec![0.0; self.groups * n];
        let mut sums = Sums::new(n);
        for row in &self.rows {
            let label = label(row);
            counts[row.group * n + label] += 1.0;
            let values = row.spans[span].iter().zip(origin).map(|(&x, origin)| f64::from(x) - origin);
            sums.add(row.group, label, self.d, values)?;
        }
        Ok(BySpan { design: Design::new(n, counts, self.grouped(), seed), sums })
    }

    /// `[d]`: the mean of a span over all conversations.
    pub fn mean(&self, span: usize) -> Vec<f64> {
        let mut mean = vec![0.0; self.d];
        for row in &self.rows {
            mean.iter_mut()
                .zip(&row.spans[span])
                .for_each(|(m, &x)| *m += f64::from(x) / self.rows.len() as f64);
        }
        mean
    }
}

impl BySpan {
    /// `[label, d]`: the mean of each label's rows minus the mean over labels, without the directions `removed`. `None` where a
    /// label has no row.
    pub fn vectors(&self, weights: &Weights, removed: &[Vec<f64>]) -> Option<Vec<f64>> {
        Some(self.made(self.sums.means(&self.design, weights)?, removed))
    }

    /// The same where whole cells have other labels of their group.
    pub fn shuffled(&self, shuffle: &Shuffle, removed: &[Vec<f64>]) -> Vec<f64> {
        self.made(self.sums.means_shuffled(&self.design, shuffle), removed)
    }

    fn made(&self, mut means: Vec<f64>, removed: &[Vec<f64>]) -> Vec<f64> {
        vectors::without(&mut means, removed, self.sums.d());
        means
    }
}
