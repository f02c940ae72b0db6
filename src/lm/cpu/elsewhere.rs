//! Stub for processors without kernels of our own: there are no [`Registers`], so nothing here is ever called.

use super::{DeltaInputs, Products};
use crate::lm::attention_mask::Row;
use crate::lm::spec::{Activation, DeltaHeads};
use tch::Tensor;

/// An empty type: there are none on this processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registers {}

impl Registers {
    /// The kinds of registers of this processor, the widest first: none.
    pub fn here() -> Vec<Registers> {
        Vec::new()
    }

    /// Their name.
    pub fn name(self) -> &'static str {
        match self {}
    }

    /// Their name if MKL computes products of many rows.
    pub fn name_with_mkl(self) -> &'static str {
        match self {}
    }
}

/// Always false.
pub fn is_intel() -> bool {
    false
}

pub fn product(on: Registers, _: &Tensor, _: &Tensor, _: Option<&Tensor>) -> Tensor {
    match on {}
}

pub fn attend(
    on: Registers,
    _: &Tensor,
    _: (&Tensor, &Tensor),
    _: &[Row],
    _: Option<usize>,
    _: Products,
) -> Tensor {
    match on {}
}

pub fn put(_: &Tensor, _: &Tensor, _: &[usize]) {}

pub fn rms_norm(on: Registers, _: &Tensor, _: Option<(&Tensor, f64)>, _: f64) -> Tensor {
    match on {}
}

pub fn layer_norm(on: Registers, _: &Tensor, _: &Tensor, _: &Tensor, _: f64) -> Tensor {
    match on {}
}

pub fn rotate(on: Registers, _: &Tensor, _: &Tensor, _: &Tensor) -> Tensor {
    match on {}
}

pub fn activated(on: Registers, _: Activation, _: &Tensor) -> Tensor {
    match on {}
}

pub fn gated(on: Registers, _: Activation, _: &Tensor, _: &Tensor) -> Tensor {
    match on {}
}

pub fn convolve(on: Registers, _: &Tensor, _: Option<&Tensor>, _: &Tensor) -> Tensor {
    match on {}
}

pub fn delta_rule(on: Registers, _: &DeltaInputs, _: DeltaHeads, _: &[usize], _: Option<&Tensor>) -> Tensor {
    match on {}
}
