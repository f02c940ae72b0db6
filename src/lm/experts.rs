//! A mixture of experts: MLPs of which each token goes through a few, chosen by a router. Knows
//! nothing of the residual stream around it.

use super::backend::Backend;
use super::mlp::Mlp;
use super::norm::RmsNorm;
use tch::{Device, Kind, Tensor};

/// The experts of one block.
pub struct Experts {
    /// Which experts a token goes through.
    pub router: Router,
    /// The experts.
    pub each: Vec<Mlp>,
}

/// Chooses experts and weighs them.
pub struct Router {
    /// `[experts, d_model]`
    pub weight: Tensor,
    /// A norm of what it reads, without a gain.
    pub norm: Option<RmsNorm>,
    /// `[d_model]`, multiplies what it reads, divided by the root of the width.
    pub input_scale: Option<Tensor>,
    /// `[experts]`, multiplies an expert's weight.
    pub expert_scale: Option<Tensor>,
    /// Experts that a token goes through.
    pub active: i64,
    /// Whether their weights are made to sum to 1.
    pub normalized: bool,
}

impl Router {
    /// Weights, fp32, and experts, int64, of `[tokens, d_model]`: `[tokens, active]` each.
    fn choose(&self, x: &Tensor, backend: Backend) -> (Tensor, Tensor) {
        let mut x = self.norm.as_ref().map_or_else(|| x.shallow_clone(), |norm| norm.forward(x, backend));
        if let Some(scale) = &self.input_scale {
            x = x * scale * (self.weight.size()[1] as f64).sqrt().recip();
        }
        let scores = backend.linear(&x, &self.weight, None);
        let (weights, chosen) = scores.softmax(-1, Kind::Float).topk(self.active, -1, true, true);
        let weights = match self.normalized {
            true => &weights / weights.sum_dim_intlist(-1, true, Kind::Float),
            false => weights,
        };
        match &self.expert_scale {
            None => (weights, chosen),
            Some(scale) => (weights * scale.to_kind(Kind::Float).index(&[Some(&chosen)]), chosen),
        }
    }
}

impl Experts {
    /// The same on `device`.
    pub fn on(&self, device: Device) -> Experts {
        let Router { weight, norm, input_scale, expert_scale, active, normalized } = &self.router;
        let moved = |x: &Option<Tensor>| x.as_ref().map(|x| x.to_device(device));
        let router = Router {
            weight: weight.to_device(device),
            norm: norm.as_ref().map(|norm| norm.on(device)),
            input_scale: moved(input_scale),
            expert_scale: moved(expert_scale),
            active: *active,
            normalized: *normalized,
        };
        Experts { router, each: self.each.iter().map(|mlp| mlp.on(device)).collect() }
    }

    /// The weighted sum of the experts' outputs on `x`, chosen by `seen`; all three are
    /// `[batch, pos, d_model]`. Summed in fp32. The choice crosses to the host, once a block.
    pub fn forward(&self, x: &Tensor, seen: &Tensor, backend: Backend) -> Tensor {
        let (shape, d_model) = (x.size(), x.size()[2]);
        let (x, seen) = (x.reshape([-1, d_model]), seen.reshape([-1, d_model]));
        let (weights, chosen) = self.router.choose(&seen, backend);
        let places = backend.choose(&chosen, self.each.len());
        let weights = weights.view([-1, 1]);
        let mut sum = Tensor::zeros(x.size(), (Kind::Float, x.device()));
        for (expert, places) in self.each.iter().zip(places) {
            let Some(places) = places else { continue };
            let tokens = places.divide_scalar_mode(self.router.active, "floor");
            let out = expert.forward(&x.index_select(0, &tokens), backend);
            // A token meets an expert at most once, so that the order of the sum is that of the experts.
            let _ =
                sum.index_add_(0, &tokens, &(out.to_kind(Kind::Float) * weights.index_select(0, &places)));
        }
        sum.to_kind(x.kind()).view(shape.as_slice())
    }
}
