//! A words-only baseline for an emotion: log-odds of words in the stories of one emotion against those of the others.
//! Does not depend on a model.

use std::collections::HashMap;

use anyhow::Result;

use crate::store::table::Table;

/// Added to every count, so that a word that occurs on one side only has a finite log-odds.
const SMOOTHING: f64 = 0.5;

/// Words and their log-odds.
pub struct Lexicon(HashMap<String, f64>);

/// Runs of letters, in lower case.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphabetic()).filter(|word| !word.is_empty()).map(str::to_lowercase)
}

impl Lexicon {
    /// Compares the words in stories (tables of schema `stories/1`) of `emotion` with those of all others.
    ///
    /// # Errors
    /// A table that cannot be read.
    pub fn of(stories: &[Table], emotion: &str) -> Result<Lexicon> {
        let mut counts: HashMap<String, [f64; 2]> = HashMap::new();
        let mut totals = [0.0; 2];
        for table in stories {
            for (of, text) in table.opt_str("emotion")?.iter().zip(table.str("text")?) {
                let side = usize::from(of.as_deref() != Some(emotion));
                for word in words(text) {
                    counts.entry(word).or_default()[side] += 1.0;
                    totals[side] += 1.0;
                }
            }
        }
        let all = SMOOTHING * counts.len() as f64;
        let share = |count: f64, total: f64| ((count + SMOOTHING) / (total + all)).ln();
        let odds = |(word, [own, other]): (String, [f64; 2])| {
            (word, share(own, totals[0]) - share(other, totals[1]))
        };
        Ok(Lexicon(counts.into_iter().map(odds).collect()))
    }

    /// For each token, the log-odds of the word that it is part of; 0 for words that occur in no story, and for tokens
    /// that are not words.
    pub fn scores(&self, pieces: &[String]) -> Vec<f64> {
        let (mut scores, mut word, mut own) = (vec![0.0; pieces.len()], String::new(), 0..0);
        let mut end = |word: &mut String, tokens: std::ops::Range<usize>| {
            let score = self.0.get(word.as_str()).copied().unwrap_or(0.0);
            if !word.is_empty() {
                scores[tokens].fill(score);
            }
            word.clear();
        };
        for (token, piece) in pieces.iter().enumerate() {
            for c in piece.chars() {
                if c.is_alphabetic() {
                    own = if word.is_empty() { token..token + 1 } else { own.start..token + 1 };
                    word.extend(c.to_lowercase());
                } else {
                    end(&mut word, own.clone());
                }
            }
        }
        end(&mut word, own);
        scores
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::table::Column;

    #[test]
    fn log_odds_are_those_of_a_hand_calculation_and_stand_on_every_piece_of_a_word() {
        let stories = Table::new(
            "stories/1",
            vec![
                (
                    "emotion",
                    Column::OptStr(vec![Some("sad".into()), Some("glad".into()), Some("sad".into())]),
                ),
                ("text", Column::Str(vec!["Rain, rain.".into(), "Sun and rain".into(), "tears".into()])),
            ],
        );
        let lexicon = Lexicon::of(&[stories], "sad").unwrap();
        // Four words; 3 of "sad", 3 of others: (2 + .5) / (3 + 2) against (1 + .5) / (3 + 2).
        let rain = (2.5f64 / 1.5).ln();
        let tears = (1.5f64 / 0.5).ln();
        let pieces = ["A", " Ra", "in", ",", " tears", "!", " snow"].map(String::from);
        let want = [0.0, rain, rain, 0.0, tears, 0.0, 0.0];
        let got = lexicon.scores(&pieces);
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12), "{got:?}");
    }
}
