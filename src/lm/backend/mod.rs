//! The backend that computes a model's passes, selected when the model is loaded according to device and processor. All
//! differences between devices, processors and dtypes are decided here. Independent of blocks and models.

mod attention;

use super::cpu::{self, DeltaInputs, Registers};
use super::device::send;
use super::norm::{LayerNorm, RmsNorm};
use super::spec::{Activation, DeltaHeads};
use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

pub use attention::{Asked, AttentionKernel, Heads};

/// A compute backend. Its [`name`](Backend::name) is part of the cache key of everything that a model computes.
///
/// | | computes | a row's numbers in different batches |
/// |---|---|---|
/// | `Own` | on the CPU: fp32 by our own kernels, except for products of many rows with several threads ([`Many`]); the rest by libtorch | bitwise equal in fp32 if all products are our own: see [`linear`](Backend::linear); otherwise equal up to rounding |
/// | `Cpu` | on the CPU by libtorch alone | equal up to rounding |
/// | `Cuda` | on an NVIDIA GPU by libtorch | equal up to rounding |
/// | `Mps` | on Apple's GPU by libtorch | equal up to rounding |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The CPU, with our own kernels for fp32.
    Own(Registers, Many),
    /// The CPU, by libtorch alone.
    Cpu,
    /// CUDA.
    Cuda,
    /// Metal.
    Mps,
}

/// Library for fp32 products with many rows on a CPU with several threads. Both come with libtorch.
///
/// MKL does not use AVX-512 on processors of other vendors than Intel: 190 GFLOP/s on two cores of a Zen 5, where
/// oneDNN reaches 430. On two cores of an Intel Xeon MKL reaches 430 and oneDNN 400, and extraction with MKL takes 5 to
/// 8 % less time (`docs/design/performance.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    /// The library that libtorch uses for a linear map.
    Mkl,
    /// oneDNN, which treats all vendors alike, but which in fp32 is available only for convolutions.
    OneDnn,
}

impl Many {
    /// Both libraries, the faster one on this processor first.
    fn here() -> [Many; 2] {
        // Determined without libtorch, which may not be loaded yet.
        match cpu::is_intel() {
            true => [Many::Mkl, Many::OneDnn],
            false => [Many::OneDnn, Many::Mkl],
        }
    }

    /// From how many rows on, with several threads, it is faster than our own kernel: MKL on the Xeon, oneDNN on the Zen 5
    /// (`benches/products.rs`), where it depends little on the size of the matrix, which oneDNN reorders on each call.
    fn rows(self) -> usize {
        match self {
            Many::Mkl => 128,
            Many::OneDnn => 512,
        }
    }
}

/// Environment variable that selects a CPU backend instead of the best one.
pub const VARIABLE: &str = "EMOFLOW_BACKEND";

impl Backend {
    /// All backends for `device` on this machine, the best first.
    pub fn all(device: Device) -> Vec<Backend> {
        match device {
            Device::Cuda(_) => vec![Backend::Cuda],
            Device::Mps => vec![Backend::Mps],
            Device::Cpu | Device::Vulkan => {
                let own = |registers| Many::here().map(|many| Backend::Own(registers, many));
                Registers::here().into_iter().flat_map(own).chain([Backend::Cpu]).collect()
            }
        }
    }

    /// The backend for `device`: on the CPU the one named in [`VARIABLE`], otherwise the best.
    ///
    /// # Errors
    /// A variable that names no backend of this machine.
    pub fn chosen(device: Device) -> Result<Backend> {
        let all = Backend::all(device);
        let wanted = std::env::var(VARIABLE).ok().filter(|wanted| !wanted.is_empty());
        let Some(wanted) = wanted.filter(|_| device == Device::Cpu) else { return Ok(all[0]) };
        let names: Vec<&str> = all.iter().map(|backend| backend.name()).collect();
        let at = names.iter().position(|name| *name == wanted);
        let at =
            at.with_context(|| format!("{VARIABLE}={wanted}: this processor has {}", names.join(", ")))?;
        Ok(all[at])
    }

    /// Like [`chosen`](Self::chosen), for use where an invalid variable has already been reported: then the best
    /// backend.
    pub fn likely(device: Device) -> Backend {
        Backend::chosen(device).unwrap_or_else(|_| Backend::all(device)[0])
    }

    /// Name used in cache keys: backends that differ in the low bits have different names.
    pub fn name(self) -> &'static str {
        match self {
            Backend::Own(registers, Many::OneDnn) => registers.name(),
            Backend::Own(registers, Many::Mkl) => registers.name_with_mkl(),
            Backend::Cpu if cfg!(target_arch = "x86_64") => "libtorch-x86_64",
            Backend::Cpu if cfg!(target_arch = "aarch64") => "libtorch-aarch64",
            Backend::Cpu => "libtorch",
            Backend::Cuda => "cuda",
            Backend::Mps => "mps",
        }
    }

    /// Whether it computes in host memory.
    pub fn is_cpu(self) -> bool {
        matches!(self, Backend::Own(..) | Backend::Cpu)
    }

    /// The registers with which our own kernels compute on `x`; `None` if libtorch computes.
    fn own(self, x: &Tensor) -> Option<Registers> {
        match self {
            Backend::Own(registers, _) if x.kind() == Kind::Float => Some(registers),
            _ => None,
        }
    }

    /// `x Wᵀ + b` in the dtype of `x`: weights of another dtype are converted for this use.
    ///
    /// On the CPU in fp32, libtorch's libraries are slow with few rows, either inherently (MKL) or because they reorder
    /// the weights first (oneDNN): our own kernel computes those products.
    pub fn linear(self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
        let kernel = self.product_kernel(x);
        if let ProductKernel::Own(registers) = kernel {
            return cpu::product(registers, x, weight, bias);
        }
        let weight = weight.to_kind(x.kind());
        let bias = bias.map(|bias| bias.to_kind(x.kind()));
        match kernel {
            ProductKernel::Convolution => convolution(x, &weight, bias.as_ref()),
            _ => x.linear(&weight, bias.as_ref()),
        }
    }

    /// The kernel that multiplies `x`, `[.., in]`, with a matrix.
    fn product_kernel(self, x: &Tensor) -> ProductKernel {
        /// Up to this many numbers libtorch computes a convolution itself, and with one thread any convolution
        /// (`ConvParams::use_mkldnn` of its Convolution.cpp).
        const SMALL: usize = 20_480;
        let (Some(registers), Backend::Own(_, library)) = (self.own(x), self) else {
            return ProductKernel::Libtorch;
        };
        let width = x.size().last().copied().unwrap_or(1).max(1) as usize;
        let many = x.numel() / width >= library.rows() && x.numel() > SMALL;
        match library {
            _ if !many || tch::get_num_threads() == 1 => ProductKernel::Own(registers),
            Many::OneDnn => ProductKernel::Convolution,
            Many::Mkl => ProductKernel::Libtorch,
        }
    }

    /// Whether linear maps of the same input are stored as one matrix, so that one product computes all outputs. On a
    /// GPU with few rows, as in generation, queueing a product takes longer than computing it, and with many rows a
    /// wide product uses the GPU better than a narrow one. On the CPU, where weights may be memory-mapped, they are not
    /// joined.
    pub fn joins_maps(device: Device) -> bool {
        device != Device::Cpu
    }

    /// Whether it computes rows in dtype `kind` one after another without padding: its attention takes each row by itself.
    /// libtorch's attention wants rows of one length.
    pub fn packs(self, kind: Kind) -> bool {
        matches!(self, Backend::Own(..)) && kind == Kind::Float
    }

    /// Whether means over tokens are computed row by row, so that a row's mean does not depend on the lengths of other
    /// rows. On a GPU a launch for each row would take longer than the sum over all rows.
    pub fn pools_row_by_row(device: Device) -> bool {
        device == Device::Cpu
    }

    /// Whether the gated delta rule is computed in chunks, which takes more memory than token by token.
    pub fn has_delta_in_chunks(self) -> bool {
        !matches!(self, Backend::Own(..))
    }

    /// See [`RmsNorm::forward`].
    pub fn rms_norm(self, x: &Tensor, norm: &RmsNorm) -> Tensor {
        match self.own(x) {
            Some(registers) => cpu::rms_norm(registers, x, norm.gain(), norm.eps),
            None => norm.by_libtorch(x),
        }
    }

    /// See [`LayerNorm::forward`].
    pub fn layer_norm(self, x: &Tensor, norm: &LayerNorm) -> Tensor {
        match self.own(x) {
            Some(registers) => cpu::layer_norm(registers, x, &norm.gain, &norm.bias, norm.eps),
            None => norm.by_libtorch(x),
        }
    }

    /// Rotates the leading entries of the heads `x`, `[batch, heads, pos, d_head]`, in fp32, rounded once. `cos` and
    /// `sin` are `[batch or 1, 1, pos, entries]`, and `sin` is negated in the first half: the result is
    /// `x cos + roll(x) sin`.
    pub fn rotate(self, x: &Tensor, cos: &Tensor, sin: &Tensor) -> Tensor {
        if let Some(registers) = self.own(x) {
            return cpu::rotate(registers, x, cos, sin);
        }
        let (d_head, entries) = (x.size()[3], cos.size()[3]);
        let turning = if entries == d_head { x.shallow_clone() } else { x.narrow(-1, 0, entries) };
        let other_half = turning.roll(entries / 2, -1);
        let rotated = (turning * cos).addcmul_(&other_half, sin).to_kind(x.kind());
        if entries == d_head {
            return rotated;
        }
        Tensor::cat(&[rotated, x.narrow(-1, entries, d_head - entries)], -1)
    }

    /// Applies `activation` to `x` elementwise.
    pub fn activate(self, activation: Activation, x: &Tensor) -> Tensor {
        match self.own(x) {
            Some(registers) => cpu::activated(registers, activation, x),
            None => activation.by_libtorch(x),
        }
    }

    /// Applies `activation` to `x` and multiplies by `by`, elementwise.
    pub fn gate(self, activation: Activation, x: &Tensor, by: &Tensor) -> Tensor {
        match self.own(x) {
            Some(registers) => cpu::gated(registers, activation, x, by),
            None => activation.by_libtorch(x) * by,
        }
    }

    /// Stores the keys or values of one token per row, `[batch, n_kv_heads, 1, d_head]`, in their slots of the cache
    /// `kept`, `[batch, n_kv_heads, slots, d_head]`. The slots are given twice: on the host, and as `[batch]` on the
    /// device.
    pub fn put_kv(self, kept: &mut Tensor, token: &Tensor, (slots, on_device): (&[usize], &Tensor)) {
        match self {
            Backend::Own(..) if kept.kind() == Kind::Float => cpu::put(kept, token, slots),
            // libtorch's `scatter` takes ten times as long on the CPU; its `index_put` has more overhead before a GPU
            // starts.
            Backend::Own(..) | Backend::Cpu => {
                let rows = Tensor::arange(slots.len() as i64, (Kind::Int64, kept.device()));
                let _ = kept.index_put_(&[Some(&rows), None, Some(on_device)], &token.squeeze_dim(2), false);
            }
            Backend::Cuda | Backend::Mps => {
                let _ = kept.scatter_(2, &on_device.view([-1, 1, 1, 1]).expand_as(token), token);
            }
        }
    }

    /// Cumulative sums of each row of `p`, `[batch, width]` in fp32.
    pub fn cumulative(self, p: &Tensor) -> Tensor {
        if self.is_cpu() { cpu::cumulative(p) } else { p.cumsum(-1, Kind::Float) }
    }

    /// Number of draws of a token before the host checks whether one was accepted: with a GPU, waiting for the answer
    /// takes longer than another draw.
    pub fn draws(self) -> u64 {
        if self.is_cpu() { 1 } else { 3 }
    }

    /// Groups tokens by expert: for each expert, the flat indices at which it occurs in `chosen`, int64
    /// `[tokens, active]`, each on the device.
    pub fn choose(self, chosen: &Tensor, experts: usize) -> Vec<Option<Tensor>> {
        let device = chosen.device();
        let chosen: Vec<i64> = Vec::try_from(chosen.to_device(Device::Cpu).view(-1)).unwrap_or_default();
        let mut places: Vec<Vec<i64>> = vec![Vec::new(); experts];
        for (place, expert) in chosen.into_iter().enumerate() {
            places[expert as usize].push(place as i64);
        }
        let sent =
            |places: Vec<i64>| (!places.is_empty()).then(|| send(&Tensor::from_slice(&places), device));
        places.into_iter().map(sent).collect()
    }

    /// The short convolution along the sequence before the gated delta rule, in fp32: `x`, `[batch, pos, channels]`,
    /// preceded by `before`, `[batch, kernel - 1, channels]`, or zeros, with `weight`, `[kernel, channels]`. `None`:
    /// libtorch computes it.
    pub fn convolve(self, x: &Tensor, before: Option<&Tensor>, weight: &Tensor) -> Option<Tensor> {
        self.own(x).map(|registers| cpu::convolve(registers, x, before, weight))
    }

    /// Output of the value heads by the gated delta rule, token by token; `memory` is updated to the state after each
    /// row's last token. `None`: libtorch computes it, in chunks.
    pub fn delta(
        self,
        of: &DeltaInputs,
        heads: DeltaHeads,
        lengths: &[usize],
        memory: Option<&Tensor>,
    ) -> Option<Tensor> {
        self.own(of.qkv).map(|registers| cpu::delta_rule(registers, of, heads, lengths, memory))
    }
}

/// Kernel for the product of rows with a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProductKernel {
    /// Our own kernels.
    Own(Registers),
    /// oneDNN, as a convolution.
    Convolution,
    /// The library that libtorch uses for a linear map.
    Libtorch,
}

/// `x Wᵀ + b` as a convolution with one pixel, on a picture with one pixel per row: its layout is that of `x`, so
/// nothing is copied.
fn convolution(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Tensor {
    let [out, width] = [weight.size()[0], weight.size()[1]];
    let picture = x.reshape([1, 1, -1, width]).permute([0, 3, 1, 2]);
    let pixel = weight.reshape([out, width, 1, 1]);
    let y = picture.conv2d(&pixel, bias, [1, 1], [0, 0], [1, 1], 1).permute([0, 2, 3, 1]);
    let mut shape = x.size();
    shape.pop();
    shape.push(out);
    y.reshape(shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_backend_has_a_name_of_its_own() {
        let all: Vec<Backend> =
            [Device::Cpu, Device::Cuda(1), Device::Mps].into_iter().flat_map(Backend::all).collect();
        let names: BTreeSet<&str> = all.iter().map(|backend| backend.name()).collect();
        assert_eq!(names.len(), all.len());
        assert!(all.len() >= 3 && all[0].is_cpu() && all.contains(&Backend::Cpu));
        assert_eq!(Backend::chosen(Device::Cuda(0)).unwrap(), Backend::Cuda);
    }

    /// Compares every CPU backend with a product in fp64.
    #[test]
    fn every_kernel_gives_the_product() {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        // Rows, in, out: one row, few rows, few rows of larger matrices, many rows; each as a batch, with and without a
        // bias.
        let few = [(1, 64, 96), (9, 64, 96), (9, 600, 700), (9, 600, 704), (40, 600, 704)];
        let many = [(500, 64, 96), (70, 600, 700), (300, 600, 704)];
        for (rows, inner, out) in few.into_iter().chain(many) {
            for bias in [None, Some(random(&[out]))] {
                // Weights may be rows of a larger matrix.
                let weight = random(&[out + 3, inner]).narrow(0, 2, out);
                let x = random(&[2, rows, inner]);
                let wide = |x: &Tensor| x.to_kind(Kind::Double);
                let want = wide(&x).linear(&wide(&weight), bias.as_ref().map(wide).as_ref());
                for backend in Backend::all(Device::Cpu) {
                    let got = backend.linear(&x, &weight, bias.as_ref());
                    assert_eq!(got.size(), [2, rows, out]);
                    let error = (wide(&got) - &want).abs().max() / want.abs().max();
                    // Rounding of sums of 700 products: the square root of 700 times 6e-8.
                    assert!(error.double_value(&[]) < 3e-6, "{backend:?} {rows} {inner} {out}: {error:?}");
                }
            }
        }
    }

    #[test]
    fn weights_may_lie_the_other_way() {
        let weight = Tensor::randn([600, 704], (Kind::Float, Device::Cpu));
        for rows in [9, 40, 200] {
            let x = Tensor::randn([rows, 600], (Kind::Float, Device::Cpu));
            for backend in Backend::all(Device::Cpu) {
                let got = backend.linear(&x, &weight.tr(), None);
                assert!(got.allclose(&x.matmul(&weight), 1e-4, 1e-4, false), "{backend:?}");
            }
        }
    }

    #[test]
    fn tokens_go_to_their_slots() {
        let token = Tensor::randn([3, 2, 1, 6], (Kind::Float, Device::Cpu));
        let slots = [3usize, 0, 8];
        let on_device = Tensor::from_slice(&slots.map(|slot| slot as i64));
        for kind in [Kind::Float, Kind::BFloat16] {
            let token = token.to_kind(kind);
            let want = Tensor::zeros([3, 2, 9, 6], (kind, Device::Cpu));
            for (row, slot) in slots.into_iter().enumerate() {
                want.get(row as i64).narrow(1, slot as i64, 1).copy_(&token.get(row as i64));
            }
            // The GPU variant runs on the CPU too.
            for backend in Backend::all(Device::Cpu).into_iter().chain([Backend::Cuda]) {
                let mut kept = Tensor::zeros([3, 2, 9, 6], (kind, Device::Cpu));
                backend.put_kv(&mut kept, &token, (&slots, &on_device));
                assert_eq!(kept, want, "{backend:?} {kind:?}");
            }
        }
    }
}
