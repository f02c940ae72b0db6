//! RMSNorm. Knows nothing of where it stands.

use super::cpu;
use super::spec::Gain;
use tch::{Device, Kind, Tensor};

/// Divides by the root mean square over the last axis, then multiplies by a learned gain.
pub struct RmsNorm {
    /// What was learned, `[width]`; `None`: a gain of 1.
    pub learned: Option<Tensor>,
    /// What `learned` means.
    pub gain: Gain,
    /// Added to the mean square.
    pub eps: f64,
}

impl RmsNorm {
    /// The same on `device`.
    pub fn on(&self, device: Device) -> RmsNorm {
        let learned = self.learned.as_ref().map(|learned| learned.to_device(device));
        RmsNorm { learned, gain: self.gain, eps: self.eps }
    }

    /// `[.., width]` to the same shape: computed in fp32, rounded once to the dtype of `x`.
    /// (transformers rounds before the gain in some families; in fp32 that is the same.)
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let gain = self
            .learned
            .as_ref()
            .map(|learned| (learned, if self.gain == Gain::OnePlus { 1.0 } else { 0.0 }));
        if let Some(y) = cpu::rms_norm(x, gain, self.eps) {
            return y;
        }
        match &self.learned {
            Some(learned) if self.gain == Gain::Times && learned.kind() == x.kind() => {
                rms_norm(x, Some(learned), self.eps)
            }
            None => rms_norm(x, None, self.eps),
            Some(_) => self.scale(normalize(x, self.eps)).to_kind(x.kind()),
        }
    }

    /// `x`, in fp32, times the gain.
    pub fn scale(&self, x: Tensor) -> Tensor {
        match (&self.learned, self.gain) {
            (None, _) => x,
            (Some(learned), Gain::Times) => x * learned,
            (Some(learned), Gain::OnePlus) => x * (learned.to_kind(Kind::Float) + 1.0),
        }
    }
}

/// `x` divided by its root mean square over the last axis, in fp32.
pub fn normalize(x: &Tensor, eps: f64) -> Tensor {
    rms_norm(&x.to_kind(Kind::Float), None, eps)
}

/// libtorch's own: computed in fp32 and rounded once, on a GPU in one kernel, which reads and writes `x` once.
fn rms_norm(x: &Tensor, gain: Option<&Tensor>, eps: f64) -> Tensor {
    let width = x.size().last().copied().unwrap_or(0);
    x.rms_norm([width], gain, eps)
}
