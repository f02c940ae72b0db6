//! A batch of token rows, padded on the right or packed. Independent of their content.

use anyhow::{Result, ensure};
use tch::Tensor;

/// Token rows of one forward pass: padded on the right, or packed, that is, one after another without padding, which
/// not every backend computes ([`Backend::packs`](super::backend::Backend::packs)).
pub struct Batch {
    /// `[batch, pos]` int64 on the CPU, with padding of token 0; if packed, `[1, tokens]`.
    pub ids: Tensor,
    /// Number of real tokens of each row in this pass, at least 1.
    pub lengths: Vec<usize>,
    /// Position of each row's first token in its sequence: 0, except in a cached step of generation.
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

    /// A batch of prompts, packed.
    ///
    /// # Errors
    /// No rows, or a row without tokens.
    pub fn packed<R: AsRef<[i64]>>(rows: &[R]) -> Result<Batch> {
        let flat = rows.iter().map(AsRef::as_ref).collect::<Vec<_>>().concat();
        Ok(Batch { ids: Tensor::from_slice(&flat).unsqueeze(0), ..Batch::new(rows)? })
    }

    /// Selects rows of a padded batch in the given order, with repetitions, as sequences of their own, padded to the
    /// longest of them.
    pub fn select(&self, rows: &[usize]) -> Batch {
        assert!(!self.is_packed(), "rows of a packed batch have no padding to be selected with");
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

    /// Number of tokens of the longest row.
    pub fn longest(&self) -> usize {
        self.lengths.iter().copied().max().unwrap_or(0)
    }

    /// Number of tokens that the pass computes, padding included.
    pub fn tokens(&self) -> usize {
        self.ids.numel()
    }

    /// Whether the rows follow one another without padding.
    pub fn is_packed(&self) -> bool {
        is_packed(&self.ids, self.rows())
    }

    /// A row's own tokens in `x`, `[batch, pos, ..]` or `[1, tokens, ..]` as [`ids`](Self::ids): `[tokens, ..]`.
    pub fn row(&self, x: &Tensor, row: usize) -> Tensor {
        let (at, first) = match self.is_packed() {
            true => (0, self.lengths[..row].iter().sum()),
            false => (row, 0),
        };
        x.get(at as i64).narrow(0, first as i64, self.lengths[row] as i64)
    }

    /// Bool on the CPU, in the shape of [`ids`](Self::ids): `wanted(row, position in the row's sequence)` for each entry.
    pub fn mask(&self, wanted: impl Fn(usize, usize) -> bool) -> Tensor {
        let flat: Vec<bool> =
            self.rows_of_tokens().map(|(row, at)| wanted(row, self.starts[row] + at)).collect();
        Tensor::from_slice(&flat).view_as(&self.ids)
    }

    /// For each entry of [`ids`](Self::ids), its row and its place among the row's tokens.
    pub fn rows_of_tokens(&self) -> impl Iterator<Item = (usize, usize)> {
        let padded = (!self.is_packed()).then_some(self.ids.size()[1] as usize);
        let rows = self.lengths.iter().enumerate();
        rows.flat_map(move |(row, &length)| (0..padded.unwrap_or(length)).map(move |at| (row, at)))
    }
}

/// Whether `ids`, the tokens of so many rows, are packed.
pub fn is_packed(ids: &Tensor, rows: usize) -> bool {
    ids.size()[0] == 1 && rows > 1
}

/// Splits rows of these lengths into batches of at most `batch_tokens` tokens, padding included unless they are
/// `packed`, but of at least one row: longest first, so that a batch too large for the device fails at once; equal
/// lengths in their order. Depends on nothing else.
pub fn batches(lengths: &[usize], batch_tokens: usize, packed: bool) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&row| (std::cmp::Reverse(lengths[row]), row));
    let mut batches: Vec<Vec<usize>> = Vec::new();
    let mut tokens = 0;
    for row in order {
        let more = |batch: &[usize]| lengths[if packed { row } else { batch[0] }];
        match batches.last_mut() {
            Some(batch) if tokens + more(batch) <= batch_tokens => {
                tokens += more(batch);
                batch.push(row);
            }
            _ => {
                tokens = lengths[row];
                batches.push(vec![row]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_bounded_sorted_and_hold_every_row_once() {
        assert_eq!(batches(&[5, 9, 5, 2, 9], 18, false), [vec![1, 4], vec![0, 2, 3]]);
        assert_eq!(batches(&[5, 9, 5, 2, 9], 28, true), [vec![1, 4, 0, 2], vec![3]]);
        for packed in [false, true] {
            assert_eq!(batches(&[5, 9, 5], 4, packed), [vec![1], vec![0], vec![2]]);
            assert!(batches(&[], 8, packed).is_empty());
            let lengths: Vec<usize> = (0..500).map(|i| 1 + (i * 7919) % 83).collect();
            let all = batches(&lengths, 256, packed);
            for batch in &all {
                let tokens = match packed {
                    true => batch.iter().map(|&row| lengths[row]).sum(),
                    false => batch.len() * lengths[batch[0]],
                };
                assert!(tokens <= 256);
                assert!(batch.is_sorted_by_key(|&row| (std::cmp::Reverse(lengths[row]), row)));
            }
            let mut all = all.concat();
            all.sort_unstable();
            assert!(all.into_iter().eq(0..500));
        }
    }

    #[test]
    fn a_row_is_found_in_either_layout() {
        let rows = [vec![4, 5], vec![6], vec![7, 8, 9]];
        for batch in [Batch::new(&rows).unwrap(), Batch::packed(&rows).unwrap()] {
            assert_eq!((batch.rows(), batch.longest()), (3, 3));
            for (at, row) in rows.iter().enumerate() {
                assert_eq!(Vec::<i64>::try_from(batch.row(&batch.ids, at)).unwrap(), *row);
            }
            let second = batch.mask(|row, at| (row, at) == (2, 1));
            let found = batch.ids.masked_select(&second);
            assert_eq!(Vec::<i64>::try_from(found).unwrap(), [8]);
        }
        let packed = Batch::packed(&rows).unwrap();
        assert_eq!((packed.ids.size(), packed.tokens(), packed.is_packed()), (vec![1, 6], 6, true));
        assert!(!Batch::packed(&rows[..1]).unwrap().is_packed());
        assert!(Batch::packed(&[vec![], vec![1]]).is_err());
    }
}
