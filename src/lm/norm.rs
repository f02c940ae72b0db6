//! RMSNorm and LayerNorm. Independent of their place in the model.

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
    /// Learned values, `[width]`; `None`: a gain of 1.
    pub learned: Option<Tensor>,
    /// How `learned` is applied.
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
    /// Copy on `device`.
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

    /// The effect of the norm on directions `v` in fp32, except for the division: the gain, applied after subtracting
    /// the mean if the norm does so.
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
    /// Copy on `device`.
    pub fn on(&self, device: Device) -> RmsNorm {
        let learned = self.learned.as_ref().map(|learned| learned.to_device(device));
        RmsNorm { learned, gain: self.gain, eps: self.eps }
    }

    /// See [`Norm::forward`].
    /// (transformers rounds before the gain in some families; in fp32 this makes no difference.)
    pub fn forward(&self, x: &Tensor, backend: Backend) -> Tensor {
        backend.rms_norm(x, self)
    }

    /// The learned part of the gain, and the constant added to it.
    pub fn gain(&self) -> Option<(&Tensor, f64)> {
        let more = if self.gain == Gain::OnePlus { 1.0 } else { 0.0 };
        self.learned.as_ref().map(|learned| (learned, more))
    }

    /// Computed by libtorch's kernels.
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
    /// Copy on `device`.
    pub fn on(&self, device: Device) -> LayerNorm {
        LayerNorm { gain: self.gain.to_device(device), bias: self.bias.to_device(device), eps: self.eps }
    }

    /// See [`Norm::forward`].
    pub fn forward(&self, x: &Tensor, backend: Backend) -> Tensor {
        backend.layer_norm(x, self)
    }

    /// Computed by libtorch's kernels.
    pub(super) fn by_libtorch(&self, x: &Tensor) -> Tensor {
        let width = x.size().last().copied().unwrap_or(0);
        let norm = |x: &Tensor| {
            let [gain, bias] = [&self.gain, &self.bias].map(|learned| learned.to_kind(x.kind()));
            x.layer_norm([width], Some(gain), Some(bias), self.eps, true)
        };
        if self.gain.kind() == x.kind() { norm(x) } else { norm(&x.to_kind(Kind::Float)).to_kind(x.kind()) }
    }
}

/// libtorch's kernel: computed in fp32 and rounded once; on a GPU a single kernel, which reads and writes `x` once.
fn rms_norm(x: &Tensor, gain: Option<&Tensor>, eps: f64) -> Tensor {
    let width = x.size().last().copied().unwrap_or(0);
    x.rms_norm([width], gain, eps)
}
