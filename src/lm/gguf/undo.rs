//! Steps that undo a converter's changes to the elements of a tensor. Independent of any architecture.

use anyhow::Result;
use tch::{Kind, Tensor};

/// One step that undoes a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// 1 was added to every element.
    MinusOne,
    /// Every element x was replaced by -exp(x).
    LogOfMinus,
    /// A matrix was transposed.
    Transpose,
    /// Runs along an axis were reordered.
    Reorder(Reorder),
}

/// The elements along an axis from an index on, stored as `[outer, inner, run]` and needed as `[inner, outer, run]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reorder {
    pub axis: i64,
    /// The first index that was moved.
    pub from: i64,
    pub outer: i64,
    pub inner: i64,
}

impl Undo {
    /// Whether values change, not only their positions.
    pub fn computes(&self) -> bool {
        matches!(self, Undo::MinusOne | Undo::LogOfMinus)
    }

    /// `x` with the step undone.
    ///
    /// # Errors
    /// A shape that does not fit the step.
    pub fn of(&self, x: &Tensor) -> Result<Tensor> {
        Ok(match self {
            Undo::MinusOne => x - 1.0,
            Undo::LogOfMinus => x.to_kind(Kind::Double).neg().log().to_kind(x.kind()),
            Undo::Transpose => x.f_transpose(0, 1)?,
            Undo::Reorder(order) => order.undone(x)?,
        })
    }
}

impl Reorder {
    fn undone(&self, x: &Tensor) -> Result<Tensor> {
        let Reorder { axis, from, outer, inner } = *self;
        let shape = x.size();
        let kept = x.f_narrow(axis, 0, from)?;
        let moved = x.f_narrow(axis, from, shape[axis as usize] - from)?;
        let moved = moved.f_unflatten(axis, [outer, inner, -1])?.f_transpose(axis, axis + 1)?;
        Ok(Tensor::f_cat(&[kept, moved.f_flatten(axis, axis + 2)?], axis)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_go_back_to_where_they_were() {
        let order = Reorder { axis: 0, from: 2, outer: 3, inner: 2 };
        // Two elements that stay; then runs of two: heads a and b, three parts each, stored part by part.
        let stored = Tensor::from_slice(&[0i64, 1, 10, 11, 20, 21, 12, 13, 22, 23, 14, 15, 24, 25]);
        let want = Tensor::from_slice(&[0i64, 1, 10, 11, 12, 13, 14, 15, 20, 21, 22, 23, 24, 25]);
        assert_eq!(Undo::Reorder(order).of(&stored).unwrap(), want);
        let columns = Undo::Reorder(Reorder { axis: 1, ..order }).of(&Tensor::stack(&[&stored, &stored], 0));
        assert_eq!(columns.unwrap(), Tensor::stack(&[&want, &want], 0));
        assert!(Undo::Reorder(order).of(&stored.narrow(0, 0, 13)).is_err());
    }
}
