//! A linear map with or without bias. Knows nothing of where it stands.

use tch::{Device, Tensor};

/// `x Wᵀ + b` in the dtype of `x`: weights held in another are converted for this one use.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let bias = bias.map(|bias| bias.to_kind(x.kind()));
    x.linear(&weight.to_kind(x.kind()), bias.as_ref())
}

/// `x Wᵀ + b`.
pub struct Linear {
    /// `[out, in]`
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
}

impl Linear {
    /// `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        linear(x, &self.weight, self.bias.as_ref())
    }

    /// The same on `device`; there already, it shares its numbers with this one.
    pub fn on(&self, device: Device) -> Linear {
        let bias = self.bias.as_ref().map(|bias| bias.to_device(device));
        Linear { weight: self.weight.to_device(device), bias }
    }

    /// The map to `count` of the outputs, from `start` on. Shares its numbers with this one.
    pub fn rows(&self, start: usize, count: usize) -> Linear {
        let part = |x: &Tensor| x.narrow(0, start as i64, count as i64);
        Linear { weight: part(&self.weight), bias: self.bias.as_ref().map(part) }
    }
}
