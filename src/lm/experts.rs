//! A mixture of experts: a router sends each token through a few of the MLPs. Independent of the residual stream around
//! it.

use super::backend::Backend;
use super::mlp::Mlp;
use super::norm::RmsNorm;
use tch::{Device, Kind, Tensor};

/// The experts of one block.
pub struct Experts {
    /// Selects the experts of a token.
    pub router: Router,
    /// The experts.
    pub each: Vec<Mlp>,
}

/// Selects experts and their weights.
pub struct Router {
    /// `[experts, d_model]`
    pub weight: Tensor,
    /// Norm of the router's input, without a gain.
    pub norm: Option<RmsNorm>,
    /// `[d_model]`, multiplies the router's input, which is also divided by the root of the width.
    pub input_scale: Option<Tensor>,
    /// `[experts]`, multiplies the weight of an expert.
    pub expert_scale: Option<Tensor>,
    /// Number of experts per token.
    pub active: i64,
    /// Whether the weights of the selected experts are normalised to sum to 1.
    pub normalized: bool,
}

impl Router {
    /// Weights (fp32) and expert indices (int64) for `[tokens, d_model]`: `[tokens, active]` each.
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
    /// Copy on `device`.
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

    /// The weighted sum of the experts' outputs on `x`, selected by the router from `seen`; all three are
    /// `[batch, pos, d_model]`. Summed in fp32. The selection is copied to the host once per block.
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
            // Each expert occurs at most once per token, so the order of summation is that of the experts.
            let _ =
                sum.index_add_(0, &tokens, &(out.to_kind(Kind::Float) * weights.index_select(0, &places)));
        }
        sum.to_kind(x.kind()).view(shape.as_slice())
    }
}
