//! Adding vectors to the residual stream during a forward pass. Independent of their meaning.

use super::batch::Batch;
use super::device::send;
use super::hook::Hook;
use super::layer::Layer;
use std::ops::Range;
use tch::{Kind, Tensor};

/// Which tokens are steered, the same for all sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Every token.
    All,
    /// Only the tokens of the prompt.
    Prompt,
    /// Only the tokens after the prompt.
    Generated,
}

/// The steered tokens of each sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spans {
    /// The same positions in all sequences.
    At(Positions),
    /// For each sequence, the tokens in any of its ranges, counted from its first token. `n..usize::MAX` means all
    /// tokens from `n` on, including generated ones.
    Each(Vec<Vec<Range<usize>>>),
}

impl From<Positions> for Spans {
    fn from(positions: Positions) -> Spans {
        Spans::At(positions)
    }
}

impl Spans {
    /// Selects sequences in the given order, with repetitions.
    pub fn select(&self, sequences: &[usize]) -> Spans {
        match self {
            Spans::At(positions) => Spans::At(*positions),
            Spans::Each(spans) => Spans::Each(sequences.iter().map(|&at| spans[at].clone()).collect()),
        }
    }
}

/// Adds `strength * vector` to the residual stream at one layer. Use one hook per layer.
pub struct Steer {
    /// Layer.
    pub layer: Layer,
    /// `[d_model]`, or `[sequence, d_model]` to steer each sequence of the batch by its own vector.
    pub vector: Tensor,
    /// Multiplies the vector; negative values steer in the opposite direction.
    pub strength: f64,
    /// Which tokens are steered.
    pub spans: Spans,
}

impl Hook for Steer {
    fn resid_post(&mut self, layer: Layer, resid: Tensor, batch: &Batch) -> Tensor {
        if layer != self.layer {
            return resid;
        }
        let device = resid.device();
        let vector = send(&self.vector, device).to_kind(Kind::Float) * self.strength;
        let added = match vector.dim() {
            1 => vector,
            _ => {
                let of: Vec<i64> = match batch.is_packed() {
                    true => batch.rows_of_tokens().map(|(row, _)| batch.sequences[row] as i64).collect(),
                    false => batch.sequences.iter().map(|&s| s as i64).collect(),
                };
                let added = vector.index_select(0, &send(&Tensor::from_slice(&of), device));
                added.unsqueeze(if batch.is_packed() { 0 } else { 1 })
            }
        };
        let added = match self.steered(batch) {
            None => added,
            Some(steered) => added * send(&steered.to_kind(Kind::Float).unsqueeze(-1), device),
        };
        // Added in fp32 and rounded once.
        (resid.to_kind(Kind::Float) + added).to_kind(resid.kind())
    }

    fn first(&self) -> Option<Layer> {
        Some(self.layer)
    }

    fn alike(&self, a: usize, b: usize) -> usize {
        let same = self.vector.dim() == 1 || self.row(a).equal(&self.row(b));
        match &self.spans {
            // Only prompts are shared.
            Spans::At(Positions::Generated) => usize::MAX,
            Spans::At(Positions::All | Positions::Prompt) if same => usize::MAX,
            Spans::At(Positions::All | Positions::Prompt) => 0,
            Spans::Each(spans) if same && spans[a] == spans[b] => usize::MAX,
            Spans::Each(spans) => {
                [a, b].iter().flat_map(|&row| &spans[row]).map(|span| span.start).min().unwrap_or(usize::MAX)
            }
        }
    }
}

impl Steer {
    /// The vector of one sequence.
    fn row(&self, sequence: usize) -> Tensor {
        self.vector.get(sequence as i64)
    }

    /// `[batch, pos]` bool: which tokens are steered; `None` for all.
    fn steered(&self, batch: &Batch) -> Option<Tensor> {
        match &self.spans {
            Spans::At(Positions::All) => None,
            Spans::At(Positions::Prompt) => Some(batch.mask(|row, at| at < batch.prompts[row])),
            Spans::At(Positions::Generated) => Some(batch.mask(|row, at| at >= batch.prompts[row])),
            Spans::Each(spans) => {
                Some(batch.mask(|row, at| spans[batch.sequences[row]].iter().any(|span| span.contains(&at))))
            }
        }
    }
}
