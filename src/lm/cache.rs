//! Cache of keys and values of earlier tokens, or of recurrent states, allocated once for a whole generation. A row's
//! token at position p is stored in slot p, regardless of the lengths of other rows. Independent of sampling.

use super::backend::Backend;
use super::device::send;
use super::gated_delta::State;
use super::spec::{KeyValues, Layer, Mixer, Spec};
use tch::{Device, Kind, Tensor};

/// Keys and values of a batch of sequences of unequal length, for every layer that computes its own, and recurrent
/// states for the layers that have them.
pub struct Cache {
    layers: Vec<Kept>,
    lengths: Vec<i64>,
    /// Number of rows in the first pass, if not all rows.
    first: Option<usize>,
    step: Option<Step>,
    device: Device,
    backend: Backend,
}

/// Data shared by all layers in a pass after the first: where the new tokens are stored, and which slots they attend
/// to.
pub struct Step {
    /// `[batch, pos]`, the positions of the new tokens; `[1, pos]` if they are the same for all rows.
    pub positions: Tensor,
    /// First new position of each row.
    pub starts: Vec<usize>,
    place: Place,
    /// Number of slots visible to the new tokens.
    pub slots: i64,
}

/// Where the keys and values of new tokens are stored.
enum Place {
    /// One token per row: its slot, `[batch]`.
    Each(Tensor),
    /// Several tokens, starting at this slot in every row.
    From(i64),
}

/// Cached data of one layer.
enum Kept {
    /// Nothing: the layer uses another layer's keys and values.
    Nothing,
    /// `[batch, n_kv_heads, slots, d_head]` each.
    KeysValues(Tensor, Tensor),
    /// State after each row's last token.
    State(State),
}

impl Kept {
    /// All cached tensors; the first axis is the batch.
    fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Kept::Nothing => Vec::new(),
            Kept::KeysValues(keys, values) => vec![keys, values],
            Kept::State(State { recent, memory }) => vec![recent, memory],
        }
    }

    /// Cached data of a row after its first `tokens` tokens.
    fn of_row(&self, row: usize, tokens: usize) -> Vec<Tensor> {
        let own = self.tensors().into_iter().map(|held| held.get(row as i64));
        match self {
            Kept::KeysValues(..) => own.map(|held| held.narrow(1, 0, tokens as i64)).collect(),
            _ => own.collect(),
        }
    }
}

/// One layer's keys and values, `[batch, n_kv_heads, slots, d_head]` each.
struct Slots {
    keys: Tensor,
    values: Tensor,
}

impl Cache {
    /// Allocates `slots` tokens for each row; `lengths` are the prompt lengths.
    pub fn new(
        spec: &Spec,
        lengths: &[usize],
        slots: usize,
        kind: Kind,
        device: Device,
        backend: Backend,
    ) -> Cache {
        // Zeros rather than uninitialised memory: a masked slot must be finite to have no effect.
        let room = |shape: &[usize], kind: Kind| {
            let shape: Vec<i64> = [&[lengths.len()], shape].concat().iter().map(|&n| n as i64).collect();
            Tensor::zeros(shape, (kind, device))
        };
        let kept = |layer: &Layer| match &layer.mixer {
            Mixer::Attention(of) if matches!(of.kv, KeyValues::Of(_)) => Kept::Nothing,
            Mixer::Attention(of) => {
                let room = || room(&[of.n_kv_heads, slots, of.d_head], kind);
                Kept::KeysValues(room(), room())
            }
            Mixer::GatedDelta(of) => Kept::State(State {
                recent: room(&[of.kernel - 1, of.channels()], kind),
                memory: room(&[of.n_v_heads, of.d_k, of.d_v], Kind::Float),
            }),
        };
        Cache {
            layers: spec.layers.iter().map(kept).collect(),
            lengths: lengths.iter().map(|&n| n as i64).collect(),
            first: None,
            step: None,
            device,
            backend,
        }
    }

    /// Number of rows in the next pass.
    pub fn rows(&self) -> usize {
        self.first.unwrap_or(self.lengths.len())
    }

    /// Restricts the first pass to the first `rows` rows: see [`spread`](Cache::spread).
    pub fn begin(&mut self, rows: usize) {
        self.first = Some(rows);
    }

    /// Copies the first `tokens` tokens of row `of[row]` of the first pass to each row; `of[row]` is never after `row`.
    pub fn spread(&mut self, of: &[usize], tokens: usize) {
        self.first = None;
        for (row, &from) in of.iter().enumerate().rev().filter(|(row, from)| row != *from) {
            for kept in &self.layers {
                for (to, from) in kept.of_row(row, tokens).iter_mut().zip(kept.of_row(from, tokens)) {
                    to.copy_(&from);
                }
            }
        }
    }

    /// Prepares a pass with a single token per row, after the cached ones.
    pub fn advance(&mut self) {
        let slot = send(&Tensor::from_slice(&self.lengths), self.device).unsqueeze(1);
        let slots = self.lengths.iter().max().map_or(0, |n| n + 1);
        let starts = self.lengths.iter().map(|&n| n as usize).collect();
        let place = Place::Each(slot.view(-1));
        self.step = Some(Step { positions: slot, starts, place, slots });
        self.lengths.iter_mut().for_each(|n| *n += 1);
    }

    /// Prepares a pass with `pos` tokens per row after the first `from`, which every row has.
    pub fn go_on(&mut self, from: usize, pos: usize) {
        let starts = vec![from; self.rows()];
        let (from, slots) = (from as i64, (from + pos) as i64);
        let positions = Tensor::arange_start(from, slots, (Kind::Int64, self.device)).unsqueeze(0);
        self.step = Some(Step { positions, starts, place: Place::From(from), slots });
    }

    /// Removes a row; the last row takes its place.
    pub fn swap_remove(&mut self, row: usize) {
        let last = self.lengths.len() - 1;
        if row != last {
            for held in self.layers.iter().flat_map(Kept::tensors) {
                held.get(row as i64).copy_(&held.get(last as i64));
            }
        }
        self.lengths.swap_remove(row);
    }

    /// The step of the next pass; `None` for the first pass.
    pub fn step(&self) -> Option<&Step> {
        self.step.as_ref()
    }

    /// Stores the keys and values of layer `layer` in this pass, `[batch, n_kv_heads, pos, d_head]` each, and returns
    /// those visible to its queries: in the first pass those of the prompts, in a step all slots.
    pub fn keep(&self, layer: usize, keys: Tensor, values: Tensor) -> (Tensor, Tensor) {
        let Kept::KeysValues(all_keys, all_values) = &self.layers[layer] else { return (keys, values) };
        let rows = self.rows() as i64;
        let slots = Slots { keys: all_keys.narrow(0, 0, rows), values: all_values.narrow(0, 0, rows) };
        match &self.step {
            None => {
                slots.fill(&keys, &values);
                (keys, values)
            }
            Some(step) => slots.append(&keys, &values, step, self.backend),
        }
    }

    /// The state from which layer `layer` continues in this pass; `None` in the first pass.
    pub fn state(&self, layer: usize) -> Option<State> {
        let _ = self.step.as_ref()?;
        let Kept::State(State { recent, memory }) = &self.layers[layer] else { return None };
        let rows = self.rows() as i64;
        Some(State { recent: recent.narrow(0, 0, rows), memory: memory.narrow(0, 0, rows) })
    }

    /// Stores the state of layer `layer` after this pass.
    pub fn keep_state(&self, layer: usize, of: &State) {
        let Kept::State(State { recent, memory }) = &self.layers[layer] else { return };
        let rows = self.rows() as i64;
        for (kept, new) in [(recent, &of.recent), (memory, &of.memory)] {
            // On the CPU a memory is updated in place.
            if kept.data_ptr() != new.data_ptr() {
                kept.narrow(0, 0, rows).copy_(new);
            }
        }
    }
}

impl Slots {
    /// Keys and values of padding are masked until a real token overwrites them.
    fn fill(&self, keys: &Tensor, values: &Tensor) {
        let pos = keys.size()[2];
        self.keys.narrow(2, 0, pos).copy_(keys);
        self.values.narrow(2, 0, pos).copy_(values);
    }

    fn append(mut self, keys: &Tensor, values: &Tensor, step: &Step, backend: Backend) -> (Tensor, Tensor) {
        match &step.place {
            Place::Each(slot) => {
                for (kept, token) in [(&mut self.keys, keys), (&mut self.values, values)] {
                    backend.put_kv(kept, token, (&step.starts, slot));
                }
            }
            Place::From(slot) => {
                self.keys.narrow(2, *slot, keys.size()[2]).copy_(keys);
                self.values.narrow(2, *slot, values.size()[2]).copy_(values);
            }
        }
        (self.keys.narrow(2, 0, step.slots), self.values.narrow(2, 0, step.slots))
    }
}
