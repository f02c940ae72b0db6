//! Pooled spans of conversations at one layer, with the labels of each conversation: vectors of any span by any label.
//! Independent of what spans and labels mean.

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};

use super::Spans;
use crate::lm::Layer;
use crate::params::{Problem, Read, Reader};
use crate::stages::principal::cosine;
use crate::stages::statistics::design::FEWEST;
use crate::stages::statistics::draws::Draws;
use crate::stages::statistics::interval::mean;
use crate::stages::texts::Pairing;
use crate::stages::vectors;

/// A table of `[dialogues]` of the kind `speakers`.
pub fn of_speakers(reader: &Reader<'_>, name: &str) -> Read<String> {
    dialogues(reader, name, Pairing::Speakers)
}

/// A table of the kind `deflection`.
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
    // Errors in the table itself are reported there.
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

/// The mean over labels of the cosine between the vectors of the same label in two sets, each `[label, d]`.
pub fn likeness(a: &[f64], b: &[f64], d: usize) -> f64 {
    let cosines: Vec<f64> = a.chunks_exact(d).zip(b.chunks_exact(d)).map(|(a, b)| cosine(a, b)).collect();
    mean(&cosines)
}

/// Conversations with their spans at one layer.
pub struct Labelled {
    pub d: usize,
    pub emotions: Vec<String>,
    pub rows: Vec<Row>,
    /// The number of resampling units: topics, and each conversation without a topic.
    pub groups: usize,
    /// The number of conversations skipped because an emotion is not in the experiment.
    pub skipped: usize,
}

/// One conversation.
pub struct Row {
    pub group: usize,
    /// The block of conversations within which labels are shuffled: those of one topic; those without a topic form one
    /// block.
    pub block: usize,
    /// The indices of its two emotions.
    pub labels: [usize; 2],
    /// `[d]` for each requested span.
    pub spans: Vec<Vec<f32>>,
}

/// Steps of a shuffle per conversation; in each step three conversations exchange their labels.
const STEPS: usize = 30;

impl Labelled {
    /// Collects the conversations of `spans` at a layer whose emotions are in the experiment.
    ///
    /// # Errors
    /// No such conversation; a conversation without one of the spans `names`, which valid tables never have.
    pub fn gather(spans: &Spans, layer: Layer, emotions: &[String], names: &[&str]) -> Result<Labelled> {
        let places: HashMap<&str, usize> =
            emotions.iter().enumerate().map(|(at, e)| (e.as_str(), at)).collect();
        let mut found =
            Labelled { d: 0, emotions: emotions.to_vec(), rows: Vec::new(), groups: 0, skipped: 0 };
        let mut blocks: HashMap<Option<String>, (usize, usize)> = HashMap::new();
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
                let next = (blocks.len(), found.groups);
                let (block, known) = *blocks.entry(topic[row].clone()).or_insert(next);
                let group = if topic[row].is_some() { known } else { found.groups };
                found.groups = found.groups.max(group + 1);
                found.rows.push(Row { group, block, labels: [first, second], spans: wanted });
            }
        }
        ensure!(
            !found.rows.is_empty(),
            "no dialogue has two of the experiment's emotions; {} have others",
            found.skipped
        );
        Ok(found)
    }

    /// For each conversation, the emotion at index `which` of its labels.
    pub fn labels(&self, which: usize) -> Vec<usize> {
        self.rows.iter().map(|row| row.labels[which]).collect()
    }

    /// `[label, d]`: for a span, the mean over the conversations of each label minus the mean over labels, without the
    /// directions `removed`; `weights`: the weight of each group. `None` if a label has no conversation.
    pub fn vectors(
        &self,
        span: usize,
        labels: &[usize],
        weights: Option<&[f64]>,
        removed: &[Vec<f64>],
    ) -> Option<Vec<f64>> {
        let n = self.emotions.len();
        let (mut means, mut counts) = (vec![0.0; n * self.d], vec![0.0; n]);
        for (row, &label) in self.rows.iter().zip(labels) {
            let weight = weights.map_or(1.0, |weights| weights[row.group]);
            counts[label] += weight;
            let sum = &mut means[label * self.d..][..self.d];
            sum.iter_mut().zip(&row.spans[span]).for_each(|(sum, &x)| *sum += weight * f64::from(x));
        }
        for (mean, count) in means.chunks_exact_mut(self.d).zip(&counts) {
            mean.iter_mut().for_each(|x| *x /= count);
        }
        vectors::without(&mut means, removed, self.d);
        counts.iter().all(|&count| count > 0.0).then_some(means)
    }

    /// The labels at index `which`, shuffled among the conversations of each block. `apart`: if no conversation has
    /// two equal labels, none gets them by the shuffle either, since whoever hides an emotion does not show it; all
    /// such orders are equally likely.
    pub fn shuffled(&self, which: usize, apart: bool, draws: &mut Draws) -> Vec<usize> {
        let mut labels = self.labels(which);
        let apart = apart && self.rows.iter().all(|row| row.labels[0] != row.labels[1]);
        let mut blocks: HashMap<usize, Vec<usize>> = HashMap::new();
        self.rows.iter().enumerate().for_each(|(at, row)| blocks.entry(row.block).or_default().push(at));
        for block in (0..blocks.len()).filter_map(|block| blocks.get(&block)) {
            for _ in 0..STEPS * block.len() {
                let [a, b, c] = [(); 3].map(|()| block[draws.below(block.len())]);
                labels.swap(a, b);
                labels.swap(b, c);
                if apart && [a, b, c].iter().any(|&row| labels[row] == self.rows[row].labels[1 - which]) {
                    labels.swap(b, c);
                    labels.swap(a, b);
                }
            }
        }
        labels
    }

    /// How often each group is drawn in a bootstrap sample of the groups.
    pub fn resampled(&self, draws: &mut Draws) -> Vec<f64> {
        let mut weights = vec![0.0; self.groups];
        draws.resampled(self.groups).into_iter().for_each(|group| weights[group] += 1.0);
        weights
    }

    /// The number of resamples, out of `asked`, that are drawn for an interval: none if there are few groups.
    pub fn resamples(&self, asked: usize) -> usize {
        if self.groups < FEWEST { 0 } else { asked }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(labels: &[(usize, [usize; 2])]) -> Labelled {
        let row =
            |&(block, labels): &(usize, [usize; 2])| Row { group: block, block, labels, spans: Vec::new() };
        let emotions = (0..3).map(|at| format!("e{at}")).collect();
        Labelled { d: 1, emotions, rows: labels.iter().map(row).collect(), groups: 2, skipped: 0 }
    }

    /// The frequency of each order in 6,000 shuffles.
    fn orders(read: &Labelled, apart: bool) -> HashMap<Vec<usize>, usize> {
        let mut orders = HashMap::new();
        for seed in 0..6000 {
            *orders.entry(read.shuffled(0, apart, &mut Draws::new("test", &[seed]))).or_default() += 1;
        }
        orders
    }

    #[test]
    fn labels_are_shuffled_within_blocks_and_stay_apart() {
        let rows = [(0, [0, 1]), (1, [2, 0]), (0, [1, 2]), (0, [2, 0])];
        // The first block has six orders, 1,000 each with a standard deviation of 29; the other block has one.
        let any = orders(&read(&rows), false);
        assert!(any.len() == 6 && any.values().all(|n| n.abs_diff(1000) < 130), "{any:?}");
        assert!(any.keys().all(|labels| labels[1] == 2));
        // By hand: 0, 1, 2 and 2, 0, 1 differ from 1, 2, 0 at every place. 3,000 each, with a standard deviation of
        // 39.
        let apart = orders(&read(&rows), true);
        assert!(apart.len() == 2 && apart.values().all(|n| n.abs_diff(3000) < 170), "{apart:?}");
        // If the labels are not apart in the data, they need not be after a shuffle.
        assert_eq!(orders(&read(&[(0, [0, 0]), (0, [1, 2]), (0, [2, 1])]), true).len(), 6);
    }
}
