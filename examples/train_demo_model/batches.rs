//! Documents of the corpus as batches of token ids, one document per row. Independent of models.

use crate::corpus::rng::Rng;
use crate::corpus::{Split, document};
use crate::tokens::{self, PAD};
use anyhow::Result;
use std::collections::VecDeque;
use tch::Tensor;
use tokenizers::Tokenizer;

/// Documents drawn at a time; batches contain documents of similar length.
const POOL: usize = 3000;
/// Longer documents are truncated, in tokens.
const LONGEST: usize = 320;

/// An endless stream of batches. No document repeats: each is generated when it is needed.
pub struct Batches<'a> {
    tokenizer: &'a Tokenizer,
    split: Split,
    rng: Rng,
    batch_tokens: usize,
    about: &'a str,
    ready: VecDeque<Tensor>,
}

impl<'a> Batches<'a> {
    /// Batches of at most `batch_tokens` tokens, including padding, of documents that contain `about`.
    pub fn new(
        tokenizer: &'a Tokenizer,
        split: Split,
        seed: u64,
        batch_tokens: usize,
        about: &'a str,
    ) -> Batches<'a> {
        Batches { tokenizer, split, rng: Rng::new(seed), batch_tokens, about, ready: VecDeque::new() }
    }

    /// The next batch, `[batch, pos]` token ids, padded on the right.
    ///
    /// # Errors
    /// Those of the tokenizer.
    pub fn next(&mut self) -> Result<Tensor> {
        if self.ready.is_empty() {
            self.refill()?;
        }
        Ok(self.ready.pop_front().expect("a pool holds at least one batch"))
    }

    fn refill(&mut self) -> Result<()> {
        let drawn = std::iter::repeat_with(|| document(self.split, &mut self.rng));
        let documents: Vec<_> = drawn.filter(|drawn| drawn.says(self.about)).take(POOL).collect();
        let mut rows = tokens::encode(self.tokenizer, &documents)?;
        rows.iter_mut().for_each(|row| row.truncate(LONGEST));
        rows.sort_by_key(Vec::len);
        let mut batches = Vec::new();
        let mut left = rows.as_slice();
        while !left.is_empty() {
            let mut n = 1;
            while n < left.len() && (n + 1) * left[n].len() <= self.batch_tokens {
                n += 1;
            }
            batches.push(pad(&left[..n]));
            left = &left[n..];
        }
        for i in (1..batches.len()).rev() {
            batches.swap(i, self.rng.below(i + 1));
        }
        self.ready = batches.into();
        Ok(())
    }
}

fn pad(rows: &[Vec<i64>]) -> Tensor {
    let longest = rows.iter().map(Vec::len).max().unwrap_or(0);
    let mut ids = Vec::with_capacity(rows.len() * longest);
    for row in rows {
        ids.extend(row);
        ids.extend(std::iter::repeat_n(i64::from(PAD), longest - row.len()));
    }
    Tensor::from_slice(&ids).view([rows.len() as i64, longest as i64])
}
