//! Selection of the attention kernel. Independent of projections and caches.

use super::Backend;
use crate::lm::attention_mask::AttentionMask;
use crate::lm::cpu::{self, Products, Registers};
use tch::{Kind, Tensor};

/// Head sizes of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Number of query heads.
    pub n_heads: i64,
    /// Number of key and value heads.
    pub n_kv_heads: i64,
    /// Width of a head.
    pub d_head: i64,
}

/// An attention kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionKernel {
    /// Our own kernels, which do not store scores.
    Own(Registers),
    /// A fused kernel of libtorch, which does not store scores, and supports key heads shared by several query heads.
    Fused,
    /// The same after copying keys and values for each query head that shares them: with shared heads libtorch would
    /// use plain products and store all scores in fp32.
    FusedExpanded,
    /// One query per row: the query heads that share a key head are treated as positions, so no key is copied and a
    /// fused kernel can be used.
    OneToken,
    /// Plain products with all scores in fp32: needed for capped scores, which no fused kernel supports.
    Products,
}

/// Properties, besides the heads, that determine the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// Whether there is one query per row.
    pub one_token: bool,
    /// Whether scores are capped.
    pub capped: bool,
    /// Whether more than the slots after its own is hidden from a query.
    pub masked: bool,
}

impl Heads {
    /// Whether query heads share key heads.
    fn grouped(self) -> bool {
        self.n_heads != self.n_kv_heads
    }
}

impl Backend {
    /// Implements the table in docs/design/devices.md. On CUDA, libtorch's flash kernel supports half precision, heads
    /// of up to 256, no mask, and shared key heads; its memory-efficient kernel handles the rest (`sdp_utils.cpp`).
    pub fn attention_kernel(self, kind: Kind, heads: Heads, asked: Asked) -> AttentionKernel {
        let flash = kind != Kind::Float && heads.d_head <= 256 && !asked.masked;
        match (self, asked) {
            (Backend::Own(registers, _), _) if kind == Kind::Float => AttentionKernel::Own(registers),
            (_, Asked { capped: true, .. }) => AttentionKernel::Products,
            (_, Asked { one_token: true, .. }) => AttentionKernel::OneToken,
            (Backend::Cuda, _) if heads.grouped() && !flash => AttentionKernel::FusedExpanded,
            (Backend::Own(..) | Backend::Cpu | Backend::Cuda | Backend::Mps, _) => AttentionKernel::Fused,
        }
    }

    /// Whether a pass over texts, with or without a mask, copies keys and values for each query head that shares them.
    pub fn copies_shared_heads(self, kind: Kind, heads: Heads) -> bool {
        let kernel = |masked| self.attention_kernel(kind, heads, Asked { masked, ..Asked::default() });
        [false, true].map(kernel).contains(&AttentionKernel::FusedExpanded)
    }

    /// Whether a pass over texts stores the scores of all heads in fp32, so that its memory grows with the square of
    /// their length. libtorch's fused CUDA kernels require heads whose size is a multiple of 16 bytes; Metal's
    /// attention uses plain products.
    pub fn holds_scores(self, kind: Kind, heads: Heads, capped: bool) -> bool {
        let bytes = heads.d_head * kind.elt_size_in_bytes() as i64;
        match self.attention_kernel(kind, heads, Asked { capped, masked: true, one_token: false }) {
            AttentionKernel::Products => true,
            AttentionKernel::Own(_) => false,
            AttentionKernel::Fused | AttentionKernel::FusedExpanded | AttentionKernel::OneToken => match self
            {
                Backend::Cuda => bytes % 16 != 0,
                Backend::Mps => true,
                Backend::Own(..) | Backend::Cpu => false,
            },
        }
    }

    /// Attention of the queries `q`, `[batch, n_heads, pos, d_head]`, to keys and values,
    /// `[batch, n_kv_heads, slots, d_head]` each: `[batch, pos, n_heads * d_head]`.
    pub fn attend(
        self,
        q: &Tensor,
        (keys, values): (&Tensor, &Tensor),
        mask: &AttentionMask,
        window: Option<usize>,
        products: Products,
    ) -> Tensor {
        let size = q.size();
        let (batch, pos) = (size[0], size[2]);
        let heads = Heads { n_heads: size[1], n_kv_heads: keys.size()[1], d_head: size[3] };
        let Products { scale, cap } = products;
        let masked = !mask.is_causal(window);
        let asked = Asked { one_token: pos == 1, capped: cap.is_some(), masked };
        let bias = || mask.bias(window, q.kind());
        let z = match self.attention_kernel(q.kind(), heads, asked) {
            AttentionKernel::Own(registers) => {
                return cpu::attend(registers, q, (keys, values), mask.rows(), window, products);
            }
            AttentionKernel::Products => {
                by_products(q, (keys, values), &mask.allowed(window), products, heads)
            }
            AttentionKernel::OneToken => {
                let grouped = [batch, heads.n_kv_heads, heads.n_heads / heads.n_kv_heads, heads.d_head];
                fused(&q.reshape(grouped), (keys, values), Some(&bias()), scale, false)
            }
            AttentionKernel::Fused => {
                fused(q, (keys, values), masked.then(bias).as_ref(), scale, heads.grouped())
            }
            AttentionKernel::FusedExpanded => {
                let group = heads.n_heads / heads.n_kv_heads;
                let [keys, values] =
                    [keys, values].map(|shared| shared.repeat_interleave_self_int(group, 1, None));
                fused(q, (&keys, &values), masked.then(bias).as_ref(), scale, false)
            }
        };
        z.reshape([batch, heads.n_heads, pos, heads.d_head]).transpose(1, 2).reshape([
            batch,
            pos,
            heads.n_heads * heads.d_head,
        ])
    }
}

/// Attention with a kernel selected by libtorch; without a `bias` each query sees the slots up to its own.
fn fused(
    q: &Tensor,
    (keys, values): (&Tensor, &Tensor),
    bias: Option<&Tensor>,
    scale: f64,
    grouped: bool,
) -> Tensor {
    Tensor::scaled_dot_product_attention(q, keys, values, bias, 0.0, bias.is_none(), Some(scale), grouped)
}

/// Attention with plain products, with optional capping of scores.
fn by_products(
    q: &Tensor,
    (k, v): (&Tensor, &Tensor),
    mask: &Tensor,
    Products { scale, cap }: Products,
    heads: Heads,
) -> Tensor {
    let (batch, pos) = (q.size()[0], q.size()[2]);
    let Heads { n_heads, n_kv_heads, d_head } = heads;
    let q = q.reshape([batch, n_kv_heads, n_heads / n_kv_heads, pos, d_head]);
    let products = q.matmul(&k.unsqueeze(2).transpose(-1, -2)).to_kind(Kind::Float) * scale;
    let bounded = cap.map_or_else(|| products.shallow_clone(), |cap| (&products / cap).tanh() * cap);
    let hidden = mask.unsqueeze(1).logical_not();
    let weights = bounded.masked_fill(&hidden, f64::NEG_INFINITY).softmax(-1, Kind::Float);
    weights.to_kind(v.kind()).matmul(&v.unsqueeze(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;

    /// Attention by definition, in fp64.
    fn by_hand(
        q: &Tensor,
        keys: &Tensor,
        values: &Tensor,
        mask: &AttentionMask,
        window: Option<usize>,
    ) -> Tensor {
        let (size, group) = (q.size(), q.size()[1] / keys.size()[1]);
        let wide = |x: &Tensor| x.to_kind(Kind::Double);
        let each = |x: &Tensor| wide(x).repeat_interleave_self_int(group, 1, None);
        let scores = wide(q).matmul(&each(keys).transpose(2, 3)) * 0.1;
        let weights = scores.masked_fill(&mask.allowed(window).logical_not(), f64::NEG_INFINITY);
        let z = weights.softmax(-1, Kind::Double).matmul(&each(values));
        z.transpose(1, 2).reshape([size[0], size[2], size[1] * size[3]])
    }

    /// Compares every backend, including the GPU variants, on passes with and without a window, tokens after a filled
    /// cache, and steps of rows of unequal length; head widths are those of real models.
    #[test]
    fn every_kernel_gives_attention() {
        for (d_head, n_heads, n_kv_heads) in [(64, 6, 2), (128, 4, 4), (256, 4, 1), (512, 2, 1)] {
            for (starts, pos, slots) in [([0, 0], 19, 19), ([9, 9], 10, 19), ([18, 4], 1, 19)] {
                let random = |shape: [i64; 4]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
                let q = random([2, pos, n_heads, d_head]).transpose(1, 2);
                let [keys, values] = [0, 1].map(|_| random([2, n_kv_heads, slots, d_head]));
                let from = Tensor::from_slice(&starts).unsqueeze(1);
                let positions = from + Tensor::arange(pos, (Kind::Int64, Device::Cpu));
                let mask = AttentionMask::new(&positions, &starts.map(|start| start as usize), slots);
                for (window, kind) in [
                    (None, Kind::Float),
                    (Some(5), Kind::Float),
                    (None, Kind::BFloat16),
                    (Some(5), Kind::BFloat16),
                ] {
                    let [q, keys, values] = [&q, &keys, &values].map(|x| x.to_kind(kind));
                    let want = by_hand(&q, &keys, &values, &mask, window);
                    for backend in Backend::all(Device::Cpu).into_iter().chain([Backend::Cuda, Backend::Mps])
                    {
                        let products = Products { scale: 0.1, cap: None };
                        let got = backend.attend(&q, (&keys, &values), &mask, window, products);
                        let error = (got.to_kind(Kind::Double) - &want).abs().max() / want.abs().max();
                        // bf16 has 8 bits: weights and outputs are rounded.
                        let bound = if kind == Kind::Float { 1e-5 } else { 1e-2 };
                        assert!(
                            error.double_value(&[]) < bound,
                            "{backend:?} {kind:?} {d_head} {pos} {window:?}: {error:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn memory_is_counted_for_the_kernel_that_computes() {
        let heads = |n_kv_heads, d_head| Heads { n_heads: 8, n_kv_heads, d_head };
        let (half, single) = (Kind::BFloat16, Kind::Float);
        // Shared heads are copied only on CUDA, where a mask may be needed.
        assert!(Backend::Cuda.copies_shared_heads(half, heads(2, 64)));
        assert!(!Backend::Cuda.copies_shared_heads(half, heads(8, 64)));
        assert!(!Backend::Mps.copies_shared_heads(half, heads(2, 64)));
        assert!(!Backend::Cuda.holds_scores(half, heads(2, 64), false));
        assert!(
            Backend::Cuda.holds_scores(half, heads(2, 60), false)
                && Backend::Mps.holds_scores(half, heads(2, 64), false)
        );
        for backend in Backend::all(Device::Cpu) {
            assert!(
                !backend.copies_shared_heads(half, heads(2, 64))
                    && !backend.holds_scores(half, heads(2, 60), false)
            );
            // Our own kernels cap scores as they are computed.
            assert!(backend.holds_scores(half, heads(2, 64), true));
            let own = matches!(backend, Backend::Own(..));
            assert_eq!(backend.holds_scores(single, heads(2, 64), true), !own);
        }
    }

    #[test]
    fn on_cuda_only_what_the_flash_kernel_takes_is_shared() {
        let kernel = |kind, d_head, n_kv_heads, masked| {
            let heads = Heads { n_heads: 8, n_kv_heads, d_head };
            Backend::Cuda.attention_kernel(kind, heads, Asked { masked, ..Asked::default() })
        };
        let (half, single) = (Kind::BFloat16, Kind::Float);
        for (kind, d_head, masked) in [(half, 512, false), (half, 64, true), (single, 64, false)] {
            assert_eq!(kernel(kind, d_head, 2, masked), AttentionKernel::FusedExpanded);
            assert_eq!(kernel(kind, d_head, 8, masked), AttentionKernel::Fused);
        }
        assert_eq!(kernel(half, 256, 2, false), AttentionKernel::Fused);
    }
}
