//! Keys and values of earlier tokens, or the states that they leave behind, allocated once for a whole generation. A row's
//! token at position p stands in slot p, whatever the other rows' lengths. Knows nothing of sampling.

use super::backend::Backend;
use super::device::send;
use super::gated_delta::State;
use super::spec::{KeyValues, Layer, Mixer, Spec};
use tch::{Device, Kind, Tensor};

/// Keys and values of a batch of sequences of unequal length for every layer that has its own, and the states of those that
/// have these.
pub struct Cache {
    layers: Vec<Kept>,
    lengths: Vec<i64>,
    /// The rows of the first pass, where they are not all rows.
    first: Option<usize>,
    step: Option<Step>,
    device: Device,
    backend: Backend,
}

/// What is the same for every layer in a pass after the first: where the new tokens go, and which slots they see.
pub struct Step {
    /// `[batch, pos]`, the positions of the new tokens; `[1, pos]` where they are the same for all rows.
    pub positions: Tensor,
    /// The first of them in each row.
    pub starts: Vec<usize>,
    place: Place,
    /// How many slots they are shown.
    pub slots: i64,
}

/// Where the keys and values of new tokens go.
enum Place {
    /// One token a row: its slot, `[batch]`.
    Each(Tensor),
    /// Several tokens, from this slot on in every row.
    From(i64),
}

/// What is kept of one layer.
enum Kept {
    /// Nothing: it uses another's keys and values.
    Nothing,
    /// `[batch, n_kv_heads, slots, d_head]` each.
    KeysValues(Tensor, Tensor),
    /// After each row's last token.
    State(State),
}

impl Kept {
    /// All of it; the first axis is the batch.
    fn tensors(&self) -> Vec<&Tensor> {
        match self {
            Kept::Nothing => Vec::new(),
            Kept::KeysValues(keys, values) => vec![keys, values],
            Kept::State(State { recent, memory }) => vec![recent, memory],
        }
    }

    /// What is kept of a row after its first `tokens` tokens.
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
    /// Room for `slots` tokens of each of the rows, whose prompts have `lengths` tokens.
    pub fn new(
        spec: &Spec,
        lengths: &[usize],
        slots: usize,
        kind: Kind,
        device: Device,
        backend: Backend,
    ) -> Cache {
        // Zeros, not whatever memory holds: a masked slot must be finite to count for nothing.
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

    /// Rows of the next pass.
    pub fn rows(&self) -> usize {
        self.first.unwrap_or(self.lengths.len())
    }

    /// Makes the first pass one of the first `rows` rows alone: see [`spread`](Cache::spread).
    pub fn begin(&mut self, rows: usize) {
        self.first = Some(rows);
    }

    /// Gives each row the beginning that row `of[row]` of the first pass has, `tokens` long: no row that stands behind it.
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

    /// Makes the next pass one of a single token a row, after what the cache holds.
    pub fn advance(&mut self) {
        let slot = send(&Tensor::from_slice(&self.lengths), self.device).unsqueeze(1);
        let slots = self.lengths.iter().max().map_or(0, |n| n + 1);
        let starts = self.lengths.iter().map(|&n| n as usize).collect();
        let place = Place::Each(slot.view(-1));
        self.step = Some(Step { positions: slot, starts, place, slots });
        self.lengths.iter_mut().for_each(|n| *n += 1);
    }

    /// Makes the next pass one of `pos` tokens a row after the first `from`, which every row has.
    pub fn go_on(&mut self, from: usize, pos: usize) {
        let starts = vec![from; self.rows()];
        let (from, slots) = (from as i64, (from + pos) as i64);
        let positions = Tensor::arange_start(from, slots, (Kind::Int64, self.device)).unsqueeze(0);
        self.step = Some(Step { positions, starts, place: Place::From(from), slots });
    }

    /// Forgets a row; the last row takes its place.
    pub fn swap_remove(&mut self, row: usize) {
        let last = self.lengths.len() - 1;
        if row != last {
            for held in self.layers.iter().flat_map(Kept::tensors) {
                held.get(row as i64).copy_(&held.get(last as i64));
            }
        }
        self.lengths.swap_remove(row);
    }

    /// The step that the next pass is, if it is one.
    pub fn step(&self) -> Option<&Step> {
        self.step.as_ref()
    }

    /// Keeps what layer `layer` made in this pass, `[batch, n_kv_heads, pos, d_head]` each, and
    /// returns the keys and values that its queries may see: in the first pass those of the prompts,
    /// in a step all slots.
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

    /// The states that layer `layer` goes on from in this pass; none in the first.
    pub fn state(&self, layer: usize) -> Option<State> {
        let _ = self.step.as_ref()?;
        let Kept::State(State { recent, memory }) = &self.layers[layer] else { return None };
        let rows = self.rows() as i64;
        Some(State { recent: recent.narrow(0, 0, rows), memory: memory.narrow(0, 0, rows) })
    }

    /// Keeps what this pass leaves behind in layer `layer`.
    pub fn keep_state(&self, layer: usize, of: &State) {
        let Kept::State(State { recent, memory }) = &self.layers[layer] else { return };
        let rows = self.rows() as i64;
        for (kept, new) in [(recent, &of.recent), (memory, &of.memory)] {
            // On the CPU a memory is written where it stands.
            if kept.data_ptr() != new.data_ptr() {
                kept.narrow(0, 0, rows).copy_(new);
            }
        }
    }
}

impl Slots {
    /// What padding leaves behind is masked until a real token overwrites it.
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
