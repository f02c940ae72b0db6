//! On processors whose registers are not known here, all is for libtorch to compute.

use super::{DeltaInputs, Products};
use crate::lm::spec::{Activation, DeltaHeads};
use tch::Tensor;

pub fn product(_: &Tensor, _: &Tensor, _: Option<&Tensor>) -> Option<Tensor> {
    None
}

pub fn attend(
    _: &Tensor,
    _: &Tensor,
    _: &Tensor,
    _: &[usize],
    _: Option<usize>,
    _: Products,
) -> Option<Tensor> {
    None
}

pub fn put(_: &Tensor, _: &Tensor, _: &[usize]) -> bool {
    false
}

pub fn rms_norm(_: &Tensor, _: Option<(&Tensor, f64)>, _: f64) -> Option<Tensor> {
    None
}

pub fn layer_norm(_: &Tensor, _: &Tensor, _: &Tensor, _: f64) -> Option<Tensor> {
    None
}

pub fn rotate(_: &Tensor, _: &Tensor, _: &Tensor) -> Option<Tensor> {
    None
}

pub fn activated(_: Activation, _: &Tensor) -> Option<Tensor> {
    None
}

pub fn gated(_: Activation, _: &Tensor, _: &Tensor) -> Option<Tensor> {
    None
}

pub fn convolve(_: &Tensor, _: Option<&Tensor>, _: &Tensor) -> Option<Tensor> {
    None
}

pub fn delta_rule(_: &DeltaInputs, _: DeltaHeads, _: &[usize], _: Option<&Tensor>) -> Option<Tensor> {
    None
}

#[cfg(test)]
pub fn with_each_width(_: impl Fn()) {}
