//! A forward pass paused between two blocks. Depends on what later blocks need of earlier ones, not on their
//! computation.

use super::batch::Batch;
use super::layer::Layer;
use std::collections::HashMap;
use tch::{Device, Tensor};

/// A batch between two blocks, with everything that the remaining blocks need of earlier ones.
pub struct PartialPass {
    /// Current position in the residual stream.
    pub layer: Layer,
    /// Token ids, `[batch, pos]`.
    pub ids: Tensor,
    /// Number of tokens in each row's sequence so far; padding follows them.
    pub lengths: Vec<usize>,
    /// The residual stream at `layer`, `[batch, pos, d_model]`.
    pub resid: Tensor,
    /// Input of the first block, if later blocks use it.
    pub embedded: Option<Tensor>,
    /// Keys and values shared with later layers, by the layer that computed them, `[batch, n_kv_heads, pos, d_head]`
    /// each.
    pub shared: HashMap<usize, (Tensor, Tensor)>,
}

impl PartialPass {
    /// Applies `change` to the residual stream; it receives the layer.
    pub fn change(&mut self, change: &mut dyn FnMut(Layer, Tensor) -> Tensor) {
        let resid = std::mem::replace(&mut self.resid, Tensor::new());
        self.resid = change(self.layer, resid);
    }

    /// Copy on `device`; shares storage if it is already there.
    pub fn on(&self, device: Device) -> PartialPass {
        self.each(&|x, _| x.to_device(device), self.lengths.clone())
    }

    /// Selects rows in the given order, with repetitions, padded to the longest of them.
    pub fn select(&self, rows: &[usize]) -> PartialPass {
        let lengths: Vec<usize> = rows.iter().map(|&row| self.lengths[row]).collect();
        let pos = lengths.iter().copied().max().unwrap_or(0) as i64;
        let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let rows = Tensor::from_slice(&rows).to_device(self.resid.device());
        self.each(&|x, axis| x.narrow(axis, 0, pos).index_select(0, &rows), lengths)
    }

    /// Size in bytes, without token ids.
    pub fn bytes(&self) -> usize {
        let shared = self.shared.values().flat_map(|(keys, values)| [keys, values]);
        let all = shared.chain(&self.embedded).chain([&self.resid]);
        all.map(|x| x.numel() * x.kind().elt_size_in_bytes()).sum()
    }

    /// Applies `of` to every tensor; it receives the axis of the positions.
    fn each(&self, of: &dyn Fn(&Tensor, i64) -> Tensor, lengths: Vec<usize>) -> PartialPass {
        let shared = self.shared.iter();
        PartialPass {
            layer: self.layer,
            ids: of(&self.ids, 1),
            lengths,
            resid: of(&self.resid, 1),
            embedded: self.embedded.as_ref().map(|x| of(x, 1)),
            shared: shared.map(|(&layer, (keys, values))| (layer, (of(keys, 2), of(values, 2)))).collect(),
        }
    }
}

/// The lower part of a pass through a model, from which several passes continue: see
/// [`keep`](super::LanguageModel::keep).
pub struct Kept {
    pub(super) batch: Batch,
    pub(super) pass: PartialPass,
}

impl Kept {
    /// The layer at which the pass was kept.
    pub fn layer(&self) -> Layer {
        self.pass.layer
    }

    /// Size in bytes.
    pub fn bytes(&self) -> usize {
        self.pass.bytes()
    }
}
