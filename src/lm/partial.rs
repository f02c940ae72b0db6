//! A forward pass that stands between two blocks. Knows what later blocks need of earlier ones, not what any of them computes.

use super::batch::Batch;
use super::layer::Layer;
use std::collections::HashMap;
use tch::{Device, Tensor};

/// A batch on its way through the blocks, with all that those to come need of those before.
pub struct PartialPass {
    /// Where it stands.
    pub layer: Layer,
    /// Token ids, `[batch, pos]`.
    pub ids: Tensor,
    /// Tokens of each row's sequence so far; what follows them is padding.
    pub lengths: Vec<usize>,
    /// The residual stream at `layer`, `[batch, pos, d_model]`.
    pub resid: Tensor,
    /// What went into the first block, where later ones ask for it.
    pub embedded: Option<Tensor>,
    /// Keys and values that later layers use, by the layer that computed them, `[batch, n_kv_heads, pos, d_head]` each.
    pub shared: HashMap<usize, (Tensor, Tensor)>,
}

impl PartialPass {
    /// `change` made to the residual stream, of which it is told the layer.
    pub fn change(&mut self, change: &mut dyn FnMut(Layer, Tensor) -> Tensor) {
        let resid = std::mem::replace(&mut self.resid, Tensor::new());
        self.resid = change(self.layer, resid);
    }

    /// The same on `device`; there already, it shares its numbers with this one.
    pub fn on(&self, device: Device) -> PartialPass {
        self.each(&|x, _| x.to_device(device), self.lengths.clone())
    }

    /// Some of its rows, in this order, as often as they are named; padded to the longest of them.
    pub fn select(&self, rows: &[usize]) -> PartialPass {
        let lengths: Vec<usize> = rows.iter().map(|&row| self.lengths[row]).collect();
        let pos = lengths.iter().copied().max().unwrap_or(0) as i64;
        let rows: Vec<i64> = rows.iter().map(|&row| row as i64).collect();
        let rows = Tensor::from_slice(&rows).to_device(self.resid.device());
        self.each(&|x, axis| x.narrow(axis, 0, pos).index_select(0, &rows), lengths)
    }

    /// What it takes, in bytes; token ids are not counted.
    pub fn bytes(&self) -> usize {
        let shared = self.shared.values().flat_map(|(keys, values)| [keys, values]);
        let all = shared.chain(&self.embedded).chain([&self.resid]);
        all.map(|x| x.numel() * x.kind().elt_size_in_bytes()).sum()
    }

    /// `of` of every tensor, given the axis of its positions.
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

/// The lower part of a pass through a model, from which several passes go on: see
/// [`keep`](super::LanguageModel::keep).
pub struct Kept {
    pub(super) batch: Batch,
    pub(super) pass: PartialPass,
}

impl Kept {
    /// The layer where it stands.
    pub fn layer(&self) -> Layer {
        self.pass.layer
    }

    /// What it takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.pass.bytes()
    }
}
