//! AdamW with gradient clipping, on leaf tensors. Independent of models.

use tch::{Kind, Tensor, no_grad};

/// First-moment decay, second-moment decay, and the epsilon of the denominator: common values for language models of
/// this kind.
const BETA1: f64 = 0.9;
const BETA2: f64 = 0.98;
const EPS: f64 = 1e-8;
/// Weight decay of matrices; vectors (norm gains) are not decayed.
const WEIGHT_DECAY: f64 = 0.1;
/// Larger gradients are scaled down to this norm.
const LARGEST_NORM: f64 = 1.0;

/// The optimizer and its state.
pub struct AdamW {
    slots: Vec<Slot>,
    step: i32,
}

struct Slot {
    weight: Tensor,
    mean: Tensor,
    square: Tensor,
}

impl AdamW {
    /// Trains `weights`, leaf tensors that require gradients.
    pub fn new(weights: &[Tensor]) -> AdamW {
        let slot =
            |w: &Tensor| Slot { weight: w.shallow_clone(), mean: w.zeros_like(), square: w.zeros_like() };
        AdamW { slots: no_grad(|| weights.iter().map(slot).collect()), step: 0 }
    }

    /// One optimizer step with `gradients`, one for each weight.
    pub fn step(&mut self, learning_rate: f64, gradients: &[Tensor]) {
        self.step += 1;
        no_grad(|| {
            let norms: Vec<Tensor> = gradients.iter().map(Tensor::norm).collect();
            let norm = Tensor::stack(&norms, 0).norm().to_kind(Kind::Float);
            let clip = ((norm + 1e-6).reciprocal() * LARGEST_NORM).clamp_max(1.0);
            let (fix1, fix2) = (1.0 - BETA1.powi(self.step), 1.0 - BETA2.powi(self.step));
            for (Slot { weight, mean, square }, gradient) in self.slots.iter_mut().zip(gradients) {
                let clipped = gradient * &clip;
                let _ = mean.lerp_(&clipped, 1.0 - BETA1);
                let _ = square.lerp_(&clipped.square(), 1.0 - BETA2);
                if weight.dim() > 1 {
                    let _ = weight.g_mul_scalar_(1.0 - learning_rate * WEIGHT_DECAY);
                }
                let scale = (&*square / fix2).sqrt() + EPS;
                let _ = weight.g_sub_(&(&*mean * (learning_rate / fix1) / scale));
            }
        });
    }
}
