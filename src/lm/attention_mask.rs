//! Attention mask: which slots the queries of a pass see. Independent of keys and queries.

use std::cell::RefCell;
use tch::{Kind, Tensor};

/// Each query sees the slot of its own position and earlier ones, within its layer's window.
pub struct AttentionMask {
    /// Positions of the pass's tokens, `[batch, pos]`; `[1, pos]` if they are the same for all rows.
    positions: Tensor,
    rows: Vec<Row>,
    slots: i64,
    /// Masks and biases computed so far, by window and dtype.
    masks: RefCell<Vec<(Option<usize>, Tensor)>>,
}

/// Where the tokens of a row are in `[batch, pos]`. Its keys and values are in the slots of `[batch, slots]` from the same
/// place on, those of earlier passes first.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Index along the first axis.
    pub batch: usize,
    /// Index of the first token along the second axis: 0 unless rows are packed.
    pub first: usize,
    /// Number of tokens, padding included.
    pub pos: usize,
    /// Position of the first token in its sequence: the number of slots of earlier passes.
    pub start: usize,
}

impl AttentionMask {
    /// Mask for tokens at `positions`, `[batch or 1, pos]` on the device, starting at `starts` in each row, with
    /// `slots` visible slots.
    pub fn new(positions: &Tensor, starts: &[usize], slots: i64) -> AttentionMask {
        let pos = positions.size()[1] as usize;
        let row = |(batch, &start)| Row { batch, first: 0, pos, start };
        let rows = starts.iter().enumerate().map(row).collect();
        AttentionMask { positions: positions.shallow_clone(), rows, slots, masks: RefCell::default() }
    }

    /// Mask for packed rows of these lengths, each from its first token on; `positions` are `[1, tokens]`.
    pub fn packed(positions: &Tensor, lengths: &[usize]) -> AttentionMask {
        let row = |first: &mut usize, &pos: &usize| {
            *first += pos;
            Some(Row { batch: 0, first: *first - pos, pos, start: 0 })
        };
        let rows = lengths.iter().scan(0, row).collect();
        let slots = positions.size()[1];
        AttentionMask { positions: positions.shallow_clone(), rows, slots, masks: RefCell::default() }
    }

    /// The positions of the pass's tokens, `[batch, pos]`; `[1, pos]` if they are the same for all rows.
    pub fn positions(&self) -> &Tensor {
        &self.positions
    }

    /// Where the tokens of each row are.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether a query sees its own slot and all earlier ones, and the slots are exactly those of the pass. Not for packed
    /// rows, as [`allowed`](Self::allowed) and [`bias`](Self::bias).
    pub fn is_causal(&self, window: Option<usize>) -> bool {
        let all = window.is_none_or(|window| self.slots <= window as i64);
        all && self.slots == self.positions.size()[1]
    }

    /// True where a query sees a slot in a layer with this window: `[batch or 1, 1, pos, slots]`.
    pub fn allowed(&self, window: Option<usize>) -> Tensor {
        self.once(window, Kind::Bool, || self.seen(window, self.slots))
    }

    /// Additive mask in `kind`: 0 where a query sees a slot, otherwise minus infinity. Equivalent to
    /// [`allowed`](Self::allowed), in a form that libtorch's attention kernels use directly: they would convert a
    /// boolean mask again in every layer, and copy a mask whose rows do not start at multiples of 16 numbers
    /// (`pad_bias` of its transformers/attention.cpp).
    pub fn bias(&self, window: Option<usize>, kind: Kind) -> Tensor {
        self.once(window, kind, || {
            let hidden = self.seen(window, (self.slots + 15) / 16 * 16).logical_not_();
            let none = Tensor::zeros(hidden.size(), (kind, hidden.device()));
            none.masked_fill(&hidden, f64::NEG_INFINITY).narrow(-1, 0, self.slots)
        })
    }

    /// The mask for a window in `kind`, computed by `made` the first time.
    fn once(&self, window: Option<usize>, kind: Kind, made: impl Fn() -> Tensor) -> Tensor {
        assert!(
            self.rows.iter().all(|row| row.first == 0),
            "packed rows have no mask: they are attended to row by row"
        );
        let mut masks = self.masks.borrow_mut();
        if let Some((_, mask)) = masks.iter().find(|(of, mask)| *of == window && mask.kind() == kind) {
            return mask.shallow_clone();
        }
        let mask = made();
        masks.push((window, mask.shallow_clone()));
        mask
    }

    /// Which of the first `slots` slots are visible.
    fn seen(&self, window: Option<usize>, slots: i64) -> Tensor {
        let slot = Tensor::arange(slots, (Kind::Int64, self.positions.device()));
        let at = self.positions.unsqueeze(-1);
        let past = slot.le_tensor(&at);
        let seen = match window {
            None => past,
            // A window of one token is the token itself.
            Some(window) => past.logical_and(&slot.gt_tensor(&(&at - window as i64))),
        };
        seen.unsqueeze(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(mask: &AttentionMask, window: Option<usize>) -> Vec<Vec<bool>> {
        let allowed = mask.allowed(window);
        let rows = allowed.view([-1, mask.slots]);
        (0..rows.size()[0]).map(|row| Vec::try_from(rows.get(row)).unwrap()).collect()
    }

    #[test]
    fn a_query_sees_itself_and_what_is_before_it() {
        let (yes, no) = (true, false);
        let positions = Tensor::arange(3, (Kind::Int64, tch::Device::Cpu)).unsqueeze(0);
        let first = AttentionMask::new(&positions, &[0, 0], 3);
        assert!(first.is_causal(None) && first.is_causal(Some(3)) && !first.is_causal(Some(2)));
        assert_eq!(seen(&first, None), [[yes, no, no], [yes, yes, no], [yes, yes, yes]]);
        assert_eq!(seen(&first, Some(2)), [[yes, no, no], [yes, yes, no], [no, yes, yes]]);
        assert_eq!(seen(&first, Some(1)), [[yes, no, no], [no, yes, no], [no, no, yes]]);
        // One token in each of two rows, after one and three tokens.
        let step = AttentionMask::new(&Tensor::from_slice(&[1i64, 3]).unsqueeze(1), &[1, 3], 4);
        assert!(!step.is_causal(None));
        assert_eq!(seen(&step, None), [[yes, yes, no, no], [yes; 4]]);
        assert_eq!(seen(&step, Some(2)), [[yes, yes, no, no], [no, no, yes, yes]]);
        let far = f32::NEG_INFINITY;
        for (window, want) in [
            (None, [[0.0, 0.0, far, far], [0.0; 4]]),
            (Some(2), [[0.0, 0.0, far, far], [far, far, 0.0, 0.0]]),
        ] {
            let bias = step.bias(window, Kind::Float);
            assert_eq!(Vec::<Vec<f32>>::try_from(bias.view([2, 4])).unwrap(), want);
            assert_eq!((bias.size(), bias.stride()[0] % 16), (vec![2, 1, 1, 4], 0));
            assert_eq!(step.bias(window, Kind::BFloat16).kind(), Kind::BFloat16);
        }
    }
}
