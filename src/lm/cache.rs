//! Keys and values of earlier tokens, allocated once for a whole generation. A row's token at
//! position p stands in slot p, whatever the other rows' lengths. Knows nothing of sampling.

use super::spec::Spec;
use tch::{Device, Kind, Tensor};

/// Keys and values of every layer for a batch of sequences of unequal length.
pub struct Cache {
    layers: Vec<(Tensor, Tensor)>,
    lengths: Vec<i64>,
    step: Option<Step>,
    device: Device,
}

/// What is the same for every layer in one step: where the new token of each row goes, and which
/// slots it sees.
pub struct Step {
    /// `[batch]`, the position of each row's new token.
    pub positions: Tensor,
    /// `[batch, 1, 1, slots]`, true where a slot holds the row's own past or the new token.
    pub mask: Tensor,
    rows: Tensor,
    slots: i64,
}

/// The cache as one layer's attention sees it.
pub enum LayerCache<'a> {
    /// The prompts: positions from 0 on, right-padded.
    Fill(Slots),
    /// One new token a row.
    Step(Slots, &'a Step),
}

/// One layer's keys and values, `[batch, n_kv_heads, slots, d_head]` each.
pub struct Slots {
    keys: Tensor,
    values: Tensor,
}

impl Cache {
    /// Room for `slots` tokens of each of the rows, whose prompts have `lengths` tokens.
    pub fn new(spec: &Spec, lengths: &[usize], slots: usize, kind: Kind, device: Device) -> Cache {
        let shape = [lengths.len(), spec.n_kv_heads, slots, spec.d_head].map(|n| n as i64);
        // Zeros, not whatever memory holds: a masked slot must be finite to count for nothing.
        let room = || Tensor::zeros(shape, (kind, device));
        let layers = (0..spec.n_layers).map(|_| (room(), room())).collect();
        Cache { layers, lengths: lengths.iter().map(|&n| n as i64).collect(), step: None, device }
    }

    /// Rows that are still there.
    pub fn rows(&self) -> usize {
        self.lengths.len()
    }

    /// Makes the next pass one of a single token a row, after what the cache holds.
    pub fn advance(&mut self) {
        let positions = Tensor::from_slice(&self.lengths);
        let slots = self.lengths.iter().max().map_or(0, |n| n + 1);
        let mask = Tensor::arange(slots, (Kind::Int64, Device::Cpu)).le_tensor(&positions.unsqueeze(1));
        self.step = Some(Step {
            positions: positions.to_device(self.device),
            mask: mask.to_device(self.device).unsqueeze(1).unsqueeze(1),
            rows: Tensor::arange(self.lengths.len() as i64, (Kind::Int64, self.device)),
            slots,
        });
        self.lengths.iter_mut().for_each(|n| *n += 1);
    }

    /// Forgets a row; the last row takes its place.
    pub fn swap_remove(&mut self, row: usize) {
        let last = self.lengths.len() - 1;
        if row != last {
            for (keys, values) in &self.layers {
                for held in [keys, values] {
                    held.get(row as i64).copy_(&held.get(last as i64));
                }
            }
        }
        self.lengths.swap_remove(row);
    }

    /// The step that the next pass is, if it is one.
    pub fn step(&self) -> Option<&Step> {
        self.step.as_ref()
    }

    /// What layer `layer` needs in the next pass.
    pub fn layer(&self, layer: usize) -> LayerCache<'_> {
        let (keys, values) = &self.layers[layer];
        let rows = self.lengths.len() as i64;
        let slots = Slots { keys: keys.narrow(0, 0, rows), values: values.narrow(0, 0, rows) };
        match &self.step {
            None => LayerCache::Fill(slots),
            Some(step) => LayerCache::Step(slots, step),
        }
    }
}

impl Slots {
    /// Keeps the prompts' keys and values, `[batch, n_kv_heads, pos, d_head]`. What padding leaves
    /// behind is masked until a real token overwrites it.
    pub fn fill(&mut self, keys: &Tensor, values: &Tensor) {
        let pos = keys.size()[2];
        self.keys.narrow(2, 0, pos).copy_(keys);
        self.values.narrow(2, 0, pos).copy_(values);
    }

    /// Keeps one token a row and returns all keys and values that the step may see.
    pub fn append(&mut self, keys: &Tensor, values: &Tensor, step: &Step) -> (Tensor, Tensor) {
        let at = [Some(&step.rows), None, Some(&step.positions)];
        let _ = self.keys.index_put_(&at, &keys.squeeze_dim(2), false);
        let _ = self.values.index_put_(&at, &values.squeeze_dim(2), false);
        (self.keys.narrow(2, 0, step.slots), self.values.narrow(2, 0, step.slots))
    }
}
