//! A linear map with an optional bias. Independent of its place in the model.

use super::backend::Backend;
use tch::{Device, Tensor};

/// `x Wᵀ + b`.
pub struct Linear {
    /// `[out, in]`, contiguous. If a checkpoint stores it in another layout, it is a view of the stored tensor, whose
    /// first axes make up `out`, until [`on`](Linear::on) copies it.
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
}

impl Linear {
    /// `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor, backend: Backend) -> Tensor {
        backend.linear(x, &self.weight, self.bias.as_ref())
    }

    /// Contiguous copy on `device`; shares storage if it is already contiguous and on the device.
    pub fn on(&self, device: Device) -> Linear {
        let there = |x: &Tensor, last: i64| x.to_device(device).contiguous().flatten(0, last);
        Linear { weight: there(&self.weight, -2), bias: self.bias.as_ref().map(|bias| there(bias, -1)) }
    }

    /// Splits a map whose outputs are `heads` groups of `count` parts into one map per part, each for all heads.
    pub fn parts_of_heads(&self, heads: usize, count: usize) -> Vec<Linear> {
        let apart = |x: &Tensor| {
            let [heads, count] = [heads, count].map(|n| n as i64);
            x.unflatten(0, [heads, count, x.size()[0] / (heads * count)])
        };
        let (weight, bias) = (apart(&self.weight), self.bias.as_ref().map(apart));
        let part = |at: i64| Linear {
            weight: weight.select(1, at),
            bias: bias.as_ref().map(|bias| bias.select(1, at)),
        };
        (0..count as i64).map(part).collect()
    }

    /// The map to `count` of the outputs, starting at `start`. Shares its storage with this one.
    pub fn rows(&self, start: usize, count: usize) -> Linear {
        let part = |x: &Tensor| x.narrow(0, start as i64, count as i64);
        Linear { weight: part(&self.weight), bias: self.bias.as_ref().map(part) }
    }
}

/// Linear maps of the same input, stored as [`Backend::joins_maps`] requires.
pub enum Linears {
    /// Each separately.
    Apart(Vec<Linear>),
    /// Joined in one map, with the number of outputs of each.
    Joined(Linear, Vec<i64>),
}

impl Linears {
    /// Combines the maps in `each`, of which either all or none have a bias.
    pub fn new(each: Vec<Linear>) -> Linears {
        match each.first().map(|one| one.weight.device()) {
            Some(device) if Linears::are_joined(&each, device) => Linears::join(&each, device),
            _ => Linears::Apart(each),
        }
    }

    fn are_joined(each: &[Linear], device: Device) -> bool {
        Backend::joins_maps(device) && each.len() > 1
    }

    fn join(each: &[Linear], device: Device) -> Linears {
        let each: Vec<Linear> = each.iter().map(|one| one.on(one.weight.device())).collect();
        let counts: Vec<i64> = each.iter().map(|one| one.weight.size()[0]).collect();
        let stack = |parts: Vec<&Tensor>| {
            let mut shape = parts[0].size();
            shape[0] = counts.iter().sum();
            let all = Tensor::empty(&shape, (parts[0].kind(), device));
            for (mut place, part) in all.split_with_sizes(&counts, 0).into_iter().zip(parts) {
                place.copy_(part);
            }
            all
        };
        let weight = stack(each.iter().map(|one| &one.weight).collect());
        let biases: Option<Vec<&Tensor>> = each.iter().map(|one| one.bias.as_ref()).collect();
        Linears::Joined(Linear { weight, bias: biases.map(stack) }, counts)
    }

    /// Splits `all`, whose rows belong to consecutive maps with `counts` rows each.
    pub fn of_rows(all: Linear, counts: &[usize]) -> Linears {
        if Backend::joins_maps(all.weight.device()) {
            return Linears::Joined(all, counts.iter().map(|&count| count as i64).collect());
        }
        let mut start = 0;
        let each = counts.iter().map(|&count| {
            start += count;
            all.rows(start - count, count)
        });
        Linears::Apart(each.collect())
    }

    /// `[.., in]` to one `[.., out]` per map.
    pub fn forward(&self, x: &Tensor, backend: Backend) -> Vec<Tensor> {
        match self {
            Linears::Apart(each) => each.iter().map(|one| one.forward(x, backend)).collect(),
            Linears::Joined(all, counts) => all.forward(x, backend).split_with_sizes(counts, -1),
        }
    }

    /// Copy on `device`; shares storage if it is already there.
    pub fn on(&self, device: Device) -> Linears {
        match self {
            Linears::Apart(each) if Linears::are_joined(each, device) => Linears::join(each, device),
            Linears::Apart(each) => Linears::Apart(each.iter().map(|one| one.on(device)).collect()),
            Linears::Joined(all, counts) => Linears::Joined(all.on(device), counts.clone()),
        }
    }
}
