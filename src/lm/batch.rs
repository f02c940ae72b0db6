//! A right-padded batch of token rows. Independent of their content.

use anyhow::{Result, ensure};
use tch::Tensor;

/// Token rows of one forward pass, padded on the right.
pub struct Batch {
    /// `[batch, pos]` int64 on the CPU; padding is token 0.
    pub ids: Tensor,
    /// Number of real tokens of each row in this pass, at least 1.
    pub lengths: Vec<usize>,
    /// Position of each row's first column in its sequence: 0, except in a cached step of generation.
    pub starts: Vec<usize>,
    /// Number of leading tokens of each row's sequence that are its prompt; the rest is generated.
    pub prompts: Vec<usize>,
    /// Index of each row's sequence among the rows or prompts first given. Differs from the row index only in
    /// generation, where finished sequences leave the batch.
    pub sequences: Vec<usize>,
}

impl Batch {
    /// A batch whose rows consist of prompts only.
    ///
    /// # Errors
    /// No rows, or a row without tokens.
    pub fn new<R: AsRef<[i64]>>(rows: &[R]) -> Result<Batch> {
        let lengths: Vec<usize> = rows.iter().map(|row| row.as_ref().len()).collect();
        Batch::with_prompts(rows, &lengths)
    }

    /// A batch in which the first `prompts[row]` tokens of a row are the prompt.
    ///
    /// # Errors
    /// No rows, a row without tokens, or a prompt longer than its row.
    pub fn with_prompts<R: AsRef<[i64]>>(rows: &[R], prompts: &[usize]) -> Result<Batch> {
        ensure!(!rows.is_empty(), "a batch needs at least one row");
        ensure!(prompts.len() == rows.len(), "{} prompt lengths for {} rows", prompts.len(), rows.len());
        let lengths: Vec<usize> = rows.iter().map(|row| row.as_ref().len()).collect();
        for (row, (&length, &prompt)) in lengths.iter().zip(prompts).enumerate() {
            ensure!(length > 0, "row {row} of the batch has no tokens");
            ensure!(prompt <= length, "row {row} has a prompt of {prompt} tokens in {length}");
        }
        let pos = lengths.iter().copied().max().unwrap_or(0);
        let mut flat = vec![0i64; rows.len() * pos];
        for (padded, row) in flat.chunks_exact_mut(pos).zip(rows) {
            padded[..row.as_ref().len()].copy_from_slice(row.as_ref());
        }
        Ok(Batch {
            ids: Tensor::from_slice(&flat).view([rows.len() as i64, pos as i64]),
            starts: vec![0; rows.len()],
            prompts: prompts.to_vec(),
            sequences: (0..rows.len()).collect(),
            lengths,
        })
    }

    /// Selects rows in the given order, with repetitions, as sequences of their own, padded to the longest of them.
    pub fn select(&self, rows: &[usize]) -> Batch {
        let of = |each: &[usize]| -> Vec<usize> { rows.iter().map(|&row| each[row]).collect() };
        let lengths = of(&self.lengths);
        let pos = lengths.iter().copied().max().unwrap_or(0) as i64;
        let at: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        Batch {
            ids: self.ids.narrow(1, 0, pos).index_select(0, &Tensor::from_slice(&at)),
            starts: of(&self.starts),
            prompts: of(&self.prompts),
            sequences: (0..rows.len()).collect(),
            lengths,
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Number of columns, padding included.
    pub fn pos(&self) -> usize {
        self.ids.size()[1] as usize
    }

    /// `[batch, pos]` bool on the CPU: `wanted(row, position in the row's sequence)` for each entry.
    pub fn mask(&self, wanted: impl Fn(usize, usize) -> bool) -> Tensor {
        let (rows, pos) = (self.rows(), self.pos());
        let flat: Vec<bool> = (0..rows)
            .flat_map(|row| (0..pos).map(move |p| (row, p)))
            .map(|(r, p)| wanted(r, self.starts[r] + p))
            .collect();
        Tensor::from_slice(&flat).view([rows as i64, pos as i64])
    }
}
