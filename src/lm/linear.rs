//! A linear map with or without bias, by the fastest kernel there is for it. Knows nothing of where it stands.

use super::cpu;
use tch::{Device, Tensor};

/// `x Wᵀ + b` in the dtype of `x`: weights held in another are converted for this one use.
///
/// libtorch gives products in fp32 to MKL, which on processors that are not Intel's does without AVX-512: 190 of 430 GFLOP/s
/// on two cores of a Zen 5 (`docs/design/performance.md`). oneDNN, which libtorch has too, knows no vendors, but takes only
/// convolutions in fp32, and for those of few rows it spends more time on the order of the weights than on the product.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    /// With so many rows and several threads oneDNN is faster than what is computed here.
    const MANY: usize = 128;
    /// Up to so many numbers libtorch computes a convolution itself, and with one thread any (`ConvParams::use_mkldnn` of
    /// its Convolution.cpp).
    const SMALL: usize = 20_480;
    let [out, width] = [weight.size()[0], weight.size()[1]];
    let rows = x.numel() / width as usize;
    let convolution = rows >= MANY && x.numel() > SMALL && tch::get_num_threads() > 1;
    if !convolution && let Some(y) = cpu::product(x, weight, bias) {
        return y;
    }
    let weight = weight.to_kind(x.kind());
    let bias = bias.map(|bias| bias.to_kind(x.kind()));
    let here = cfg!(target_arch = "x86_64") && cpu::plain(x) && cpu::plain(&weight);
    if !convolution || !here || !tch::utils::has_mkldnn() {
        return x.linear(&weight, bias.as_ref());
    }
    // By one pixel, of a picture of `rows` pixels: its layout is that of `x`, so nothing is copied.
    let picture = x.reshape([1, 1, -1, width]).permute([0, 3, 1, 2]);
    let pixel = weight.reshape([out, width, 1, 1]);
    let y = picture.conv2d(&pixel, bias.as_ref(), [1, 1], [0, 0], [1, 1], 1).permute([0, 2, 3, 1]);
    let mut shape = x.size();
    shape.pop();
    shape.push(out);
    y.reshape(shape)
}

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
    pub fn forward(&self, x: &Tensor) -> Tensor {
        linear(x, &self.weight, self.bias.as_ref())
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

/// Linear maps of one input.
///
/// On a GPU their weights are one matrix, so that one product makes all outputs: with few rows, as in generation, queueing
/// a product takes longer than computing it, and with many a wide product is nearer to what the GPU can do than a narrow
/// one. On the CPU, where weights may be a mapped file's, they stay as they are.
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
        device != Device::Cpu && each.len() > 1
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
        if all.weight.device() != Device::Cpu {
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
    pub fn forward(&self, x: &Tensor) -> Vec<Tensor> {
        match self {
            Linears::Apart(each) => each.iter().map(|one| one.forward(x)).collect(),
            Linears::Joined(all, counts) => all.forward(x).split_with_sizes(counts, -1),
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

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// Against a product in fp64.
    #[test]
    fn every_kernel_gives_the_product() {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        // Rows, in, out: one row, few rows, few rows of much, many rows; then a batch with a bias and shared weights.
        let few = [(1, 64, 96), (9, 64, 96), (9, 600, 700), (9, 600, 704), (40, 600, 704)];
        let many = [(500, 64, 96), (40, 600, 700), (100, 600, 704)];
        for (rows, inner, out) in few.into_iter().chain(many) {
            for bias in [None, Some(random(&[out]))] {
                // Weights may be rows of a larger matrix.
                let all = Linear { weight: random(&[out + 3, inner]), bias: None };
                let weight = all.rows(2, out as usize).weight;
                let x = random(&[2, rows, inner]);
                let wide = |x: &Tensor| x.to_kind(Kind::Double);
                let bias_wide = bias.as_ref().map(wide);
                let want = wide(&x).linear(&wide(&weight), bias_wide.as_ref());
                let got = Linear { weight, bias }.forward(&x);
                assert_eq!(got.size(), [2, rows, out]);
                let error = (wide(&got) - &want).abs().max() / want.abs().max();
                // Rounding of sums of 700 products: their root times 6e-8.
                assert!(error.double_value(&[]) < 3e-6, "{rows} {inner} {out}: {error:?}");
            }
        }
    }

    #[test]
    fn weights_may_lie_the_other_way() {
        let weight = Tensor::randn([600, 704], (Kind::Float, Device::Cpu));
        for rows in [9, 40, 200] {
            let x = Tensor::randn([rows, 600], (Kind::Float, Device::Cpu));
            assert!(linear(&x, &weight.tr(), None).allclose(&x.matmul(&weight), 1e-4, 1e-4, false));
        }
    }

    #[test]
    fn gradients_pass() {
        let weight = Tensor::randn([700, 600], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        let x = Tensor::randn([40, 600], (Kind::Float, Device::Cpu));
        linear(&x, &weight, None).sum(Kind::Float).backward();
        // The gradient of the sum of all outputs is the sum of the rows, for each output.
        let want = x.sum_dim_intlist(0, false, Kind::Float).unsqueeze(0).expand([700, 600], false);
        assert!(weight.grad().allclose(&want, 1e-5, 1e-5, false));
    }
}
