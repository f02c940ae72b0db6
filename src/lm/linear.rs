//! A linear map with or without bias, by the fastest kernel there is for it. Knows nothing of where it stands.

use tch::{Device, Kind, Tensor};

/// `x Wᵀ + b` in the dtype of `x`: weights held in another are converted for this one use.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let weight = weight.to_kind(x.kind());
    let bias = bias.map(|bias| bias.to_kind(x.kind()));
    let width = weight.size()[1];
    match Kernel::of(x, &weight) {
        Kernel::Plain => x.linear(&weight, bias.as_ref()),
        Kernel::Convolution => {
            let rows = x.reshape([1, 1, -1, width]).permute([0, 3, 1, 2]);
            let weight = weight.reshape([-1, width, 1, 1]);
            let y = rows.conv2d(&weight, bias.as_ref(), [1, 1], [0, 0], [1, 1], 1).permute([0, 2, 3, 1]);
            y.reshape(shape(x, weight.size()[0]))
        }
        Kernel::Turned => {
            let weights = weight.reshape([PICTURES, 1, -1, width]).permute([0, 3, 1, 2]);
            let rows = x.reshape([-1, width, 1, 1]);
            let y = weights.conv2d::<&Tensor>(&rows, None, [1, 1], [0, 0], [1, 1], 1).permute([0, 2, 3, 1]);
            let y = y.reshape([weight.size()[0], -1]).tr();
            let y = match &bias {
                Some(bias) => y + bias,
                None => y,
            };
            y.contiguous().view(shape(x, weight.size()[0]).as_slice())
        }
        Kernel::OneDnn => {
            let y = x.reshape([-1, width]).to_mkldnn().mkldnn_linear(&weight, bias.as_ref());
            y.to_dense(x.kind(), false).view(shape(x, weight.size()[0]).as_slice())
        }
    }
}

/// The shape of `x` with another last axis.
fn shape(x: &Tensor, last: i64) -> Vec<i64> {
    let mut shape = x.size();
    shape.pop();
    shape.push(last);
    shape
}

/// Into so many pictures [`Kernel::Turned`] cuts the weights: with one thread, libtorch gives a convolution of fewer to
/// its own kernel (`ConvParams::use_mkldnn` of its Convolution.cpp).
const PICTURES: i64 = 16;

/// How the product is computed. libtorch gives products in fp32 to MKL, which on processors that are not Intel's does
/// without AVX-512: 190 of 430 GFLOP/s on two cores of a Zen 5 (`docs/design/performance.md`). oneDNN, which libtorch
/// has too, knows no vendors; it does not take plain products in fp32, but it does convolutions.
enum Kernel {
    /// As libtorch does it: other devices and dtypes, gradients, products too small to gain.
    Plain,
    /// As a convolution by one pixel of a picture of `rows` pixels: its layout is that of `x`, so nothing is copied.
    Convolution,
    /// As a convolution, with the weights as pixels and the rows as filters: oneDNN reorders the filters on every call and
    /// reads the pixels as they are, so that with few rows it does not reorder the weights.
    Turned,
    /// A product whose operands are copied from and to oneDNN's own tensors: where libtorch would not give the convolution
    /// to oneDNN, for it has few numbers or one thread.
    OneDnn,
}

impl Kernel {
    fn of(x: &Tensor, weight: &Tensor) -> Kernel {
        /// Up to so many numbers libtorch computes a convolution itself (`ConvParams::use_mkldnn` of its Convolution.cpp).
        const SMALL: usize = 20_480;
        /// For fewer rows, reordering the weights takes longer than the product.
        const FEW: usize = 8;
        /// From so many on, reordering the weights costs less than turning the result back.
        const MANY: usize = 128;
        /// Products of fewer rows x weights gain less than oneDNN's calls cost (some 30 us).
        const WORK: usize = 2_500_000;
        let gradients = x.requires_grad() || weight.requires_grad();
        let here = cfg!(target_arch = "x86_64") && x.device() == Device::Cpu;
        if !here || x.kind() != Kind::Float || gradients || !tch::utils::has_mkldnn() {
            return Kernel::Plain;
        }
        let rows = x.numel() / weight.size()[1] as usize;
        let cut = weight.size()[0] % PICTURES == 0;
        match rows {
            0 | 1 => Kernel::Plain,
            _ if rows * weight.numel() < WORK => Kernel::Plain,
            _ if rows < MANY && cut => Kernel::Turned,
            _ if rows < FEW => Kernel::Plain,
            // With one thread, too, libtorch computes such a convolution itself.
            _ if x.numel() > SMALL && tch::get_num_threads() > 1 => Kernel::Convolution,
            _ => Kernel::OneDnn,
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

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
