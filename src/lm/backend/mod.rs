//! What computes a model's passes: chosen once, when the model is loaded, by the device and the processor. Everything in which
//! devices, processors and dtypes differ is decided here. Knows neither blocks nor models.

mod attention;

use super::cpu::{self, DeltaInputs, Registers};
use super::device::send;
use super::norm::{LayerNorm, RmsNorm};
use super::spec::{Activation, DeltaHeads};
use anyhow::{Context, Result};
use tch::{Device, Kind, Tensor};

pub use attention::{Asked, AttentionKernel, Heads};

/// What computes. Its [`name`](Backend::name) is in the key of everything that a model computes.
///
/// | | computes | a row's numbers, whatever stands beside it in a batch |
/// |---|---|---|
/// | `Own` | on the CPU: what is in fp32 by kernels of our own, but for products of many rows with several threads ([`Many`]); the rest by libtorch | the same to the bit in fp32, where all products are our own: see [`linear`](Backend::linear); else but for rounding |
/// | `Cpu` | on the CPU by libtorch alone | the same but for rounding |
/// | `Cuda` | on an NVIDIA GPU by libtorch | the same but for rounding |
/// | `Mps` | on Apple's GPU by libtorch | the same but for rounding |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The CPU, with kernels of our own for fp32.
    Own(Registers, Many),
    /// The CPU, by libtorch alone.
    Cpu,
    /// CUDA.
    Cuda,
    /// Metal.
    Mps,
}

/// Whose products of many rows a CPU takes, in fp32 with several threads. Both come with libtorch.
///
/// MKL does without AVX-512 on processors that are not Intel's: 190 GFLOP/s on two cores of a Zen 5, where oneDNN reaches 430. On two
/// cores of an Intel Xeon MKL reaches 430 and oneDNN 400, and extraction by MKL takes 5 to 8 % less time
/// (`docs/design/performance.md`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Many {
    /// What libtorch takes for a linear map.
    Mkl,
    /// oneDNN, which knows no vendors, but takes only convolutions in fp32.
    OneDnn,
}

impl Many {
    /// The faster one on this processor first.
    fn here() -> [Many; 2] {
        // Not asked of libtorch, which may not be loaded yet.
        match cpu::is_intel() {
            true => [Many::Mkl, Many::OneDnn],
            false => [Many::OneDnn, Many::Mkl],
        }
    }
}

/// The variable that names a backend of the CPU in place of the best one.
pub const VARIABLE: &str = "EMOFLOW_BACKEND";

impl Backend {
    /// All that there are for `device` on this machine, the best first.
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

    /// The one for `device`: that of [`VARIABLE`] on the CPU, else the best.
    ///
    /// # Errors
    /// A variable that names none of this machine's.
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

    /// The same where a wrong variable was said before: then the best.
    pub fn likely(device: Device) -> Backend {
        Backend::chosen(device).unwrap_or_else(|_| Backend::all(device)[0])
    }

    /// As in keys: what gives other low bits has another name.
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

    /// Whether it computes in the host's memory.
    pub fn is_cpu(self) -> bool {
        matches!(self, Backend::Own(..) | Backend::Cpu)
    }

    /// The registers in which kernels of our own compute what is made of `x`; `None`: libtorch computes it.
    fn own(self, x: &Tensor) -> Option<Registers> {
        match self {
            Backend::Own(registers, _) if x.kind() == Kind::Float => Some(registers),
            _ => None,
        }
    }

    /// `x Wᵀ + b` in the dtype of `x`: weights held in another are converted for this one use.
    ///
    /// On the CPU in fp32 libtorch's libraries are slow with few rows, by themselves (MKL) or because they bring the weights into an
    /// order of their own first (oneDNN): those are computed by our own kernel.
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

    /// What multiplies `x`, `[.., in]`, with a matrix.
    fn product_kernel(self, x: &Tensor) -> ProductKernel {
        /// With so many rows and several threads libraries are faster than our own.
        const MANY: usize = 128;
        /// Up to so many numbers libtorch computes a convolution itself, and with one thread any (`ConvParams::use_mkldnn` of
        /// its Convolution.cpp).
        const SMALL: usize = 20_480;
        let Some(registers) = self.own(x) else { return ProductKernel::Libtorch };
        let width = x.size().last().copied().unwrap_or(1).max(1) as usize;
        let many = x.numel() / width >= MANY && x.numel() > SMALL && tch::get_num_threads() > 1;
        match self {
            _ if !many => ProductKernel::Own(registers),
            Backend::Own(_, Many::OneDnn) => ProductKernel::Convolution,
            _ => ProductKernel::Libtorch,
        }
    }

    /// Whether linear maps of one input are held as one matrix, so that one product makes all outputs. On a GPU with few rows,
    /// as in generation, queueing a product takes longer than computing it, and with many a wide product is nearer to what the
    /// GPU can do than a narrow one. On the CPU, where weights may be a mapped file's, they stay as they are.
    pub fn joins_maps(device: Device) -> bool {
        device != Device::Cpu
    }

    /// Whether means over tokens are computed row by row, so that a row's mean does not hang on how far others go. On a GPU a
    /// launch for each row would take longer than the sum over all.
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

    /// Rotates the leading entries of the heads `x`, `[batch, heads, pos, d_head]`, in fp32, rounded once. `cos` and `sin` are
    /// `[batch or 1, 1, pos, entries]`, and `sin` is negative in the first half, whose entries lose what those of the second
    /// half gain.
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

    /// What `activation` makes of `x`, entry by entry.
    pub fn activate(self, activation: Activation, x: &Tensor) -> Tensor {
        match self.own(x) {
            Some(registers) => cpu::activated(registers, activation, x),
            None => activation.by_libtorch(x),
        }
    }

    /// What `activation` makes of `x`, times `by`, entry by entry.
    pub fn gate(self, activation: Activation, x: &Tensor, by: &Tensor) -> Tensor {
        match self.own(x) {
            Some(registers) => cpu::gated(registers, activation, x, by),
            None => activation.by_libtorch(x) * by,
        }
    }

    /// Puts the keys or values of one token a row, `[batch, n_kv_heads, 1, d_head]`, into their slots of what is kept, `[batch,
    /// n_kv_heads, slots, d_head]`. The slots are given twice: on the host, and as `[batch]` on the device.
    pub fn put_kv(self, kept: &mut Tensor, token: &Tensor, (slots, on_device): (&[usize], &Tensor)) {
        match self {
            Backend::Own(..) if kept.kind() == Kind::Float => cpu::put(kept, token, slots),
            // libtorch's `scatter` takes ten times as long on the CPU, its `index_put` has more to do before a GPU begins.
            Backend::Own(..) | Backend::Cpu => {
                let rows = Tensor::arange(slots.len() as i64, (Kind::Int64, kept.device()));
                let _ = kept.index_put_(&[Some(&rows), None, Some(on_device)], &token.squeeze_dim(2), false);
            }
            Backend::Cuda | Backend::Mps => {
                let _ = kept.scatter_(2, &on_device.view([-1, 1, 1, 1]).expand_as(token), token);
            }
        }
    }

    /// The sums of each row of `p`, `[batch, width]` in fp32, from its first number on.
    pub fn cumulative(self, p: &Tensor) -> Tensor {
        if self.is_cpu() { cpu::cumulative(p) } else { p.cumsum(-1, Kind::Float) }
    }

    /// How many draws of a token are made before the host is asked whether one was kept: that of a GPU waits longer for an
    /// answer than another draw takes.
    pub fn draws(self) -> u64 {
        if self.is_cpu() { 1 } else { 3 }
    }

    /// The experts of tokens: for each expert, its places among all choices `chosen`, int64 `[tokens, active]`, each on the
    /// device.
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

    /// The short convolution along the sequence before the gated delta rule, in fp32: `x`, `[batch, pos, channels]`, after
    /// `before`, `[batch, kernel - 1, channels]`, or zeros, with `weight`, `[kernel, channels]`. `None`: by libtorch.
    pub fn convolve(self, x: &Tensor, before: Option<&Tensor>, weight: &Tensor) -> Option<Tensor> {
        self.own(x).map(|registers| cpu::convolve(registers, x, before, weight))
    }

    /// What value heads read by the gated delta rule, token by token, of their `memory`, which becomes that after each row's
    /// last token. `None`: by libtorch, in chunks.
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

/// What multiplies rows with a matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ProductKernel {
    /// Kernels of our own.
    Own(Registers),
    /// oneDNN's, as a convolution.
    Convolution,
    /// What libtorch takes for a linear map.
    Libtorch,
}

/// `x Wᵀ + b` by one pixel, of a picture of as many pixels as there are rows: its layout is that of `x`, so nothing is copied.
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

    /// Against a product in fp64, by every backend of the CPU.
    #[test]
    fn every_kernel_gives_the_product() {
        let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        // Rows, in, out: one row, few rows, few rows of much, many rows; then a batch with a bias and shared weights.
        let few = [(1, 64, 96), (9, 64, 96), (9, 600, 700), (9, 600, 704), (40, 600, 704)];
        let many = [(500, 64, 96), (40, 600, 700), (100, 600, 704)];
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
                    // Rounding of sums of 700 products: their root times 6e-8.
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
            // A GPU's way runs on the CPU too.
            for backend in Backend::all(Device::Cpu).into_iter().chain([Backend::Cuda]) {
                let mut kept = Tensor::zeros([3, 2, 9, 6], (kind, Device::Cpu));
                backend.put_kv(&mut kept, &token, (&slots, &on_device));
                assert_eq!(kept, want, "{backend:?} {kind:?}");
            }
        }
    }
}
