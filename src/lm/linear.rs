//! A linear map with or without bias. Knows nothing of where it stands.

use super::backend::Backend;
use tch::{Device, Tensor};

/// `x Wᵀ + b`.
pub struct Linear {
    /// `[out, in]`, row after row. Where a checkpoint stores it otherwise, it is a view of what is stored, whose first axes
    /// make up `out`, until [`on`](Linear::on) copies it.
    pub weight: Tensor,
    /// `[out]`
    pub bias: Option<Tensor>,
}

impl Linear {
    /// `[.., in]` to `[.., out]`.
    pub fn forward(&self, x: &Tensor, backend: Backend) -> Tensor {
        backend.linear(x, &self.weight, self.bias.as_ref())
    }

    /// The same on `device`, row after row; where it is that already, it shares its numbers with this one.
    pub fn on(&self, device: Device) -> Linear {
        let there = |x: &Tensor, last: i64| x.to_device(device).contiguous().flatten(0, last);
        Linear { weight: there(&self.weight, -2), bias: self.bias.as_ref().map(|bias| there(bias, -1)) }
    }

    /// Of a map whose outputs are `heads` times `count` parts one after the other, a map for each part of all heads.
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

    /// The map to `count` of the outputs, from `start` on. Shares its numbers with this one.
    pub fn rows(&self, start: usize, count: usize) -> Linear {
        let part = |x: &Tensor| x.narrow(0, start as i64, count as i64);
        Linear { weight: part(&self.weight), bias: self.bias.as_ref().map(part) }
    }
}

/// Linear maps of one input, held as [`Backend::joins_maps`] says.
pub enum Linears {
    /// Each by itself.
    Apart(Vec<Linear>),
    /// In one, and how many outputs are whose.
    Joined(Linear, Vec<i64>),
}

impl Linears {
    /// Those of `each`, which have a bias all or none.
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

    /// The rows of `all`, of which `counts` belong to one map each.
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

    /// `[.., in]` to one `[.., out]` for each map.
    pub fn forward(&self, x: &Tensor, backend: Backend) -> Vec<Tensor> {
        match self {
            Linears::Apart(each) => each.iter().map(|one| one.forward(x, backend)).collect(),
            Linears::Joined(all, counts) => all.forward(x, backend).split_with_sizes(counts, -1),
        }
    }

    /// The same on `device`; there already, they share their numbers with these.
    pub fn on(&self, device: Device) -> Linears {
        match self {
            Linears::Apart(each) if Linears::are_joined(each, device) => Linears::join(each, device),
            Linears::Apart(each) => Linears::Apart(each.iter().map(|one| one.on(device)).collect()),
            Linears::Joined(all, counts) => Linears::Joined(all.on(device), counts.clone()),
        }
    }
}
