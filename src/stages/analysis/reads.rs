//! Access of analyses to readings, text by text and token by token. Independent of what is computed from them.

use std::collections::HashMap;

use anyhow::{Context, Result};

use super::VectorSet;
use crate::stages::readings::{TEMPLATE, Text};
use crate::store::table::Table;

/// The readings of a set of texts.
#[derive(Clone, Copy)]
pub struct Reads<'a> {
    /// For each shard, the node that produced its texts: `texts/logs`, `stories/own`.
    pub sources: &'a [String],
    /// The readings of a shard (schema `readings/1`) and its texts, read from disk each time.
    pub read: &'a dyn Fn(usize) -> Result<(Table, Table)>,
    /// A shard of the stories that the vectors are computed from, if requested; schema `stories/1`.
    pub stories: &'a dyn Fn(usize) -> Result<Table>,
    pub n_stories: usize,
}

/// One text at one layer.
pub struct TextRead<'a> {
    pub source: &'a str,
    pub text: &'a Text,
    /// The index of the layer in the set.
    pub layer: usize,
    /// The text of each token, and its turn; `None`: the token belongs to the template.
    pub pieces: &'a [String],
    pub turns: Vec<Option<usize>>,
    /// `[token, direction]`, row-major.
    pub values: &'a [f32],
    /// The number of directions.
    pub width: usize,
}

impl TextRead<'_> {
    /// The readings of a direction at the tokens whose turn is accepted by `wanted`, each with its token.
    pub fn of(&self, direction: usize, wanted: impl Fn(usize) -> bool) -> Vec<(usize, f64)> {
        let own = self.turns.iter().enumerate().filter(|(_, turn)| turn.is_some_and(&wanted));
        own.map(|(token, _)| (token, f64::from(self.values[token * self.width + direction]))).collect()
    }
}

impl Reads<'_> {
    /// Calls `visit` with every text at every layer of `set`, shard by shard.
    ///
    /// # Errors
    /// Errors of `visit`, and of tables that cannot be read.
    pub fn each(&self, set: &VectorSet, visit: &mut dyn FnMut(&TextRead) -> Result<()>) -> Result<()> {
        for (shard, source) in self.sources.iter().enumerate() {
            let (table, texts) = (self.read)(shard)?;
            let texts = Text::of(&texts)?;
            let by_id: HashMap<&str, &Text> = texts.iter().map(|text| (text.id.as_str(), text)).collect();
            let (id, turn, layer) = (table.str("text_id")?, table.i32("turn")?, table.i32("layer")?);
            let (token, piece) = (table.i32("token")?, table.str("piece")?);
            let (width, values) = table.list("reading")?;
            let mut from = 0;
            while from < id.len() {
                // The tokens of a text are numbered from 0, at each layer.
                let more = token[from + 1..].iter().position(|&token| token == 0);
                let to = more.map_or(id.len(), |more| from + 1 + more);
                let here = set.layers.iter().position(|l| l.layer.number() == layer[from]);
                let of_turn = |&turn: &i32| (turn != TEMPLATE).then_some(turn as usize);
                visit(&TextRead {
                    source,
                    text: by_id.get(id[from].as_str()).context("a reading of no text")?,
                    layer: here.context("a reading at no layer of the set")?,
                    pieces: &piece[from..to],
                    turns: turn[from..to].iter().map(of_turn).collect(),
                    values: &values[from * width..to * width],
                    width,
                })?;
                from = to;
            }
        }
        Ok(())
    }
}

/// Running means over `window` values, each stored at the position where its window ends; minus infinity where the
/// window is incomplete: single tokens are noise, above all the first of a text. If there are fewer than `window`
/// values in total, their mean is stored at the last position.
pub fn running(values: &[f64], window: usize) -> Vec<f64> {
    let mut sum = 0.0;
    let first = window.min(values.len()).saturating_sub(1);
    let mean = |at: usize| {
        sum += values[at];
        if at >= window {
            sum -= values[at - window];
        }
        if at < first { f64::NEG_INFINITY } else { sum / (at + 1).min(window) as f64 }
    };
    (0..values.len()).map(mean).collect()
}

/// The mean and standard deviation of a stream of numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Moments {
    pub n: f64,
    sum: f64,
    squares: f64,
}

impl Moments {
    /// Adds a value.
    pub fn add(&mut self, x: f64) {
        self.n += 1.0;
        self.sum += x;
        self.squares += x * x;
    }

    pub fn mean(&self) -> f64 {
        self.sum / self.n
    }

    /// The sample standard deviation, with n - 1 in the denominator.
    pub fn sd(&self) -> f64 {
        ((self.squares - self.sum * self.sum / self.n) / (self.n - 1.0)).max(0.0).sqrt()
    }

    /// `x` as a z-score; 0 if all values were equal.
    pub fn z(&self, x: f64) -> f64 {
        let sd = self.sd();
        if sd > 0.0 { (x - self.mean()) / sd } else { 0.0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_means_end_at_their_token() {
        assert_eq!(running(&[4.0, 2.0, 6.0, 1.0], 2), [f64::NEG_INFINITY, 3.0, 4.0, 3.5]);
        assert_eq!(running(&[3.0], 16), [3.0]);
        assert_eq!(running(&[3.0, 5.0], 16), [f64::NEG_INFINITY, 4.0]);
        assert!(running(&[], 3).is_empty());
    }

    #[test]
    fn moments_are_those_of_numpy() {
        let mut moments = Moments::default();
        [1.0, 2.0, 4.0, 9.0].into_iter().for_each(|x| moments.add(x));
        // numpy.std([1, 2, 4, 9], ddof=1)
        assert!((moments.sd() - 3.559_026_084_010_437).abs() < 1e-12 && moments.mean() == 4.0);
        assert!((moments.z(9.0) - 5.0 / 3.559_026_084_010_437).abs() < 1e-12);
    }
}
