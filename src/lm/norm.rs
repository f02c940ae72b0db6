//! RMSNorm and LayerNorm. Knows nothing of where they stand.

use super::backend::Backend;
use super::spec::Gain;
use tch::{Device, Kind, Tensor};

/// A norm over the last axis.
pub enum Norm {
    /// By the root mean square.
    Rms(RmsNorm),
    /// By mean and standard deviation.
    Layer(LayerNorm),
}

/// Divides by the root mean square over the last axis, then multiplies by a learned gain.
pub struct RmsNorm {
    /// What was learned, `[width]`; `None`: a gain of 1.
    pub learned: Option<Tensor>,
    /// What `learned` means.
    pub gain: Gain,
    /// Added to the mean square.
    pub eps: f64,
}

/// Subtracts the mean over the last axis, divides by the standard deviation, multiplies by a learned gain and adds a
/// learned bias.
pub struct LayerNorm {
    /// `[width]`
    pub gain: Tensor,
    /// `[width]`
    pub bias: Tensor,
    /// Added to the variance.
    pub eps: f64,
}

impl Norm {
    /// The same on `device`.
    pub fn on(&self, device: Device) -> Norm {
        match self {
            Norm::Rms(norm) => Norm::Rms(norm.on(device)),
            Norm::Layer(norm) => Norm::Layer(norm.on(device)),
        }
    }

    /// `[.., width]` to the same shape: computed in fp32, rounded once to the dtype of `x`.
    pub fn forward(&self, x: &Tensor, backend: Backend) -> Tensor {
        match self {
            Norm::Rms(norm) => norm.forward(x, backend),
            Norm::Layer(norm) => norm.forward(x, backend),
        }
    }

    /// Of directions `v` in fp32, what the norm does whatever it divides by: the gain, after the mean is subtracted where the
    /// norm subtracts it.
    pub fn of_direction(&self, v: &Tensor) -> Tensor {
        match self {
            Norm::Rms(norm) => norm.scale(v.shallow_clone()),
            Norm::Layer(norm) => (v - v.mean_dim(-1, true, Kind::Float)) * &norm.gain,
        }
    }

    /// The norm of `v`, in fp32 throughout.
    pub fn in_fp32(&self, v: &Tensor, backend: Backend) -> Tensor {
        match self {
            Norm::Rms(norm) => norm.scale(rms_norm(v, None, norm.eps)),
            Norm::Layer(norm) => norm.forward(v, backend),
        }
    }
}

impl RmsNorm {
    /// The same on `device`.
    pub fn on(&self, device: Device) -> RmsNorm {
        let learned = self.learned.as_ref().map(|learned| learned.to_device(device));
        RmsNorm { learned, gain: self.gain, eps: self.eps }
    }

    /// See [`Norm::forward`].
    /// (transformers rounds before the gain in some families; in fp32 that is the same.)
    pub fn forward(&self, x: &Tensor, backend: Backend) -> Tensor {
        backend.rms_norm(x, self)
    }

    /// What was learned of the gain, and what is added to it.
    pub fn gain(&self) -> Option<(&Tensor, f64)> {
        let more = if self.gain == Gain::OnePlus { 1.0 } else { 0.0 };
        self.learned.as_ref().map(|learned| (learned, more))
    }

    /// By libtorch's kernels.
    pub(super) fn by_libtorch(&self, x: &Tensor) -> Tensor {
        match &self.learned {
            Some(learned) if self.gain == Gain::Times && learned.kind() == x.kind() => {
                rms_norm(x, Some(learned), self.eps)
            }
            None => rms_norm(x, None, self.eps),
            Some(learned) => {
                let gain = learned.to_kind(Kind::Float);
                let gain = if self.gain == Gain::OnePlus { gain + 1.0 } else { gain };
                rms_norm(&x.to_kind(Kind::Float), Some(&gain), self.eps).to_kind(x.kind())
            }
        }
    }

    /// `x`, in fp32, times the gain.
    fn scale(&self, x: Tensor) -> Tensor {
        match (&self.learned, self.gain) {
            (None, _) => x,
            (Some(learned), Gain::Times) => x * learned,
            (Some(learned), Gain::OnePlus) => x * (learned.to_kind(Kind::Float) + 1.0),
        }
    }
}

impl LayerNorm {
    /// The same on `device`.
    pub fn on(&self, device: Device) -> LayerNorm {
        LayerNorm { gain: self.gain.to_device(device), bias: self.bias.to_device(device), eps: self.eps }
    }

    /// See [`Norm::forward`].
    pub fn forward(&self, x: &Tensor, backend: Backend) -> Tensor {
        backend.layer_norm(x, self)
    }

    /// By libtorch's kernels.
    pub(super) fn by_libtorch(&self, x: &Tensor) -> Tensor {
        let width = x.size().last().copied().unwrap_or(0);
        let norm = |x: &Tensor| {
            let [gain, bias] = [&self.gain, &self.bias].map(|learned| learned.to_kind(x.kind()));
            x.layer_norm([width], Some(gain), Some(bias), self.eps, true)
        };
        if self.gain.kind() == x.kind() { norm(x) } else { norm(&x.to_kind(Kind::Float)).to_kind(x.kind()) }
    }
}

/// libtorch's own: computed in fp32 and rounded once, on a GPU in one kernel, which reads and writes `x` once.
fn rms_norm(x: &Tensor, gain: Option<&Tensor>, eps: f64) -> Tensor {
    let width = x.size().last().copied().unwrap_or(0);
    x.rms_norm([width], gain, eps)
}
