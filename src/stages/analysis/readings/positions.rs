//! Whether the person's last token, the token before the answer and the beginning of the answer have the same
//! readings: correlations over conversations and emotions.

use std::collections::BTreeMap;

use super::super::reads::TextRead;
use super::super::{Places, VectorSet};
use crate::lm::Layer;
use crate::stages::spans::ANSWER;
use crate::stages::statistics::Interval;
use crate::stages::statistics::correlation::pearson;
use crate::stages::statistics::draws::{Draws, rounds};
use crate::stages::statistics::interval::{mean, p_value, percentile};
use crate::store::table::{Column, Table};

/// Shuffles and resamples of the conversations: .001 is then the smallest p, and percentile intervals are stable.
const DRAWS: usize = 999;
/// The minimum number of conversations for a correlation.
const FEWEST: usize = 5;

/// The positions, in text order.
pub const POSITIONS: [&str; 3] = ["user's last token", "token before the answer", "answer's first 20 tokens"];

/// For each source and layer, the readings of the conversations at the three positions, `[emotion]` each.
#[derive(Default)]
pub struct Positions {
    all: BTreeMap<(String, usize), Vec<[Vec<f64>; 3]>>,
}

/// The readings of `n` emotions around the beginning of the last answer; `None` if there is no answer.
fn around(read: &TextRead, n: usize) -> Option<[Vec<f64>; 3]> {
    let is = |turn: &Option<usize>, role: &str| turn.is_some_and(|turn| read.text.role(turn) == role);
    let last = read.turns.iter().rposition(|turn| is(turn, "assistant"))?;
    let start = read.turns.iter().position(|turn| *turn == read.turns[last])?;
    let asked = read.turns[..start].iter().rposition(|turn| is(turn, "user"))?;
    let at = |tokens: std::ops::Range<usize>| -> Vec<f64> {
        let one = |direction: usize| {
            let values = tokens.clone().map(|token| f64::from(read.values[token * read.width + direction]));
            mean(&values.collect::<Vec<_>>())
        };
        (0..n).map(one).collect()
    };
    Some([at(asked..asked + 1), at(start - 1..start), at(start..(last + 1).min(start + ANSWER))])
}

/// Pearson's correlation over all conversations and emotions; `centred`: each emotion minus its mean at the respective
/// position.
fn correlated(x: &[&Vec<f64>], y: &[&Vec<f64>], centred: bool) -> f64 {
    let flat = |rows: &[&Vec<f64>]| -> Vec<f64> {
        let n = rows.first().map_or(0, |row| row.len());
        let means: Vec<f64> = (0..n)
            .map(|e| if centred { mean(&rows.iter().map(|row| row[e]).collect::<Vec<_>>()) } else { 0.0 })
            .collect();
        rows.iter().flat_map(|row| row.iter().zip(&means).map(|(x, m)| x - m)).collect()
    };
    pearson(&flat(x), &flat(y))
}

/// The association of two positions.
struct Found {
    r: f64,
    interval: Option<Interval>,
    centred: f64,
    p: f64,
}

fn found(rows: &[[Vec<f64>; 3]], (a, b): (usize, usize), seed: u64) -> Found {
    let r = |order: &[usize], other: &[usize], centred: bool| {
        let x: Vec<&Vec<f64>> = order.iter().map(|&at| &rows[at][a]).collect();
        let y: Vec<&Vec<f64>> = other.iter().map(|&at| &rows[at][b]).collect();
        correlated(&x, &y, centred)
    };
    let straight: Vec<usize> = (0..rows.len()).collect();
    let drawn = rounds(seed, "positions drawn", DRAWS, |draws: &mut Draws| {
        let again = draws.resampled(rows.len());
        r(&again, &again, false)
    });
    let dealt =
        rounds(seed, "positions dealt", DRAWS, |draws| r(&straight, &draws.shuffled(rows.len()), true));
    let centred = r(&straight, &straight, true);
    Found {
        r: r(&straight, &straight, false),
        interval: percentile(&drawn),
        centred,
        p: p_value(centred, &dealt),
    }
}

impl Positions {
    /// Adds a text, with `n` emotions.
    pub fn add(&mut self, read: &TextRead, n: usize) {
        let rows = around(read, n);
        self.all.entry((read.source.to_string(), read.layer)).or_default().extend(rows);
    }

    /// The table `readings_positions`; `None` if no source has five answered conversations.
    pub fn table(self, set: &VectorSet, seed: u64) -> Option<Table> {
        let mut places = Places::default();
        let (mut source, mut texts, mut a, mut b) = (vec![], vec![], vec![], vec![]);
        let (mut r, mut low, mut high, mut centred, mut p) = (vec![], vec![], vec![], vec![], vec![]);
        for ((of, layer), rows) in self.all.iter().filter(|(_, rows)| rows.len() >= FEWEST) {
            let layer: Layer = set.layers[*layer].layer;
            for pair in [(0, 1), (1, 2), (0, 2)] {
                let found = found(rows, pair, seed);
                places.push(set, layer);
                source.push(of.clone());
                texts.push(rows.len() as i32);
                a.push(POSITIONS[pair.0].to_string());
                b.push(POSITIONS[pair.1].to_string());
                r.push(found.r);
                low.push(found.interval.map(|ends| ends.low));
                high.push(found.interval.map(|ends| ends.high));
                centred.push(found.centred);
                p.push(found.p);
            }
        }
        let columns = vec![
            ("source", Column::Str(source)),
            ("texts", Column::I32(texts)),
            ("a", Column::Str(a)),
            ("b", Column::Str(b)),
            ("r", Column::F64(r)),
            ("low", Column::OptF64(low)),
            ("high", Column::OptF64(high)),
            ("r_centred", Column::F64(centred)),
            ("p", Column::F64(p)),
        ];
        let table = places.table("readings_positions/1", columns);
        (table.rows() > 0).then_some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::{Message, Role};
    use crate::stages::readings::{Said, Text};

    #[test]
    fn positions_are_those_around_the_last_answer() {
        let said = |role| Message::new(role, "x");
        let text = Text {
            id: "t".into(),
            said: Said::Turns(vec![
                said(Role::User),
                said(Role::Assistant),
                said(Role::User),
                said(Role::Assistant),
            ]),
            label: None,
            place: String::new(),
            event: None,
            labels: None,
        };
        let turns =
            [None, Some(0), Some(0), None, Some(1), None, Some(2), None, None, Some(3), Some(3), None];
        let pieces = vec![String::new(); turns.len()];
        let values: Vec<f32> = (0..turns.len()).flat_map(|at| [at as f32, 100.0 + at as f32, 0.0]).collect();
        let read = TextRead {
            source: "s",
            text: &text,
            layer: 0,
            pieces: &pieces,
            turns: turns.to_vec(),
            values: &values,
            width: 3,
        };
        assert_eq!(around(&read, 2), Some([vec![6.0, 106.0], vec![8.0, 108.0], vec![9.5, 109.5]]));
        let unanswered = TextRead { turns: turns[..4].to_vec(), ..read };
        assert_eq!(around(&unanswered, 2), None);
    }

    /// With noise p is small at its nominal rate, and a common part is found; r is compared with its definition.
    #[test]
    fn noise_is_noise_and_what_is_common_is_found() {
        let rows = |seed: u64, common: f64| -> Vec<[Vec<f64>; 3]> {
            let mut draws = Draws::new("positions", &[seed]);
            let one = |_| {
                let shared: Vec<f64> = (0..3).map(|_| draws.normal()).collect();
                [0, 1, 2].map(|_| {
                    shared.iter().enumerate().map(|(e, x)| e as f64 + draws.normal() + common * x).collect()
                })
            };
            (0..8).map(one).collect()
        };
        let small = (0..200).filter(|&seed| found(&rows(seed, 0.0), (0, 1), seed).p <= 0.05).count();
        // scipy.stats.binom.ppf([.001, .999], 200, .05) is 2 and 21.
        assert!((2..=21).contains(&small), "{small}");
        let planted = rows(1, 3.0);
        let got = found(&planted, (0, 2), 0);
        assert!(got.p <= 0.002 && got.centred > 0.6 && got.interval.is_some(), "{} {}", got.p, got.centred);
        let flat = |at: usize| planted.iter().flat_map(|row| row[at].clone()).collect::<Vec<_>>();
        assert!((got.r - pearson(&flat(0), &flat(2))).abs() < 1e-12);
    }
}
