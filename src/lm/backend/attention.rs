//! Which kernel computes attention. Knows neither projections nor caches.

use super::Backend;
use crate::lm::cpu::{self, Products, Registers};
use crate::lm::sight::Sight;
use tch::{Kind, Tensor};

/// The sizes of one layer's heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    /// Query heads.
    pub n_heads: i64,
    /// Key and value heads.
    pub n_kv_heads: i64,
    /// Width of a head.
    pub d_head: i64,
}

/// What computes attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttentionKernel {
    /// Kernels of our own: no scores are held.
    Own(Registers),
    /// libtorch's fused kernels, which hold no scores; `grouped`: with key heads that several query heads share.
    Fused {
        /// Whether query heads share key heads as they are.
        grouped: bool,
    },
    /// One query a row: the query heads that share a key head stand side by side as if they were positions, so that no key is
    /// copied, and a fused kernel takes them.
    OneToken,
    /// Plain products with all scores in fp32: bounded scores, which no fused kernel offers.
    Products,
}

impl Backend {
    /// The table of docs/design/devices.md.
    pub fn attention_kernel(
        self,
        kind: Kind,
        heads: Heads,
        one_token: bool,
        capped: bool,
    ) -> AttentionKernel {
        let grouped = heads.n_heads != heads.n_kv_heads;
        match self {
            Backend::Own(registers) if kind == Kind::Float => AttentionKernel::Own(registers),
            _ if capped => AttentionKernel::Products,
            _ if one_token => AttentionKernel::OneToken,
            _ => AttentionKernel::Fused { grouped },
        }
    }

    /// What the heads `q`, `[batch, n_heads, pos, d_head]`, see of keys and values, `[batch, n_kv_heads, slots, d_head]` each:
    /// `[batch, pos, n_heads * d_head]`.
    pub fn attend(
        self,
        q: &Tensor,
        (keys, values): (&Tensor, &Tensor),
        sight: &Sight,
        window: Option<usize>,
        products: Products,
    ) -> Tensor {
        let size = q.size();
        let (batch, pos) = (size[0], size[2]);
        let heads = Heads { n_heads: size[1], n_kv_heads: keys.size()[1], d_head: size[3] };
        let Products { scale, cap } = products;
        let z = match self.attention_kernel(q.kind(), heads, pos == 1, cap.is_some()) {
            AttentionKernel::Own(registers) => {
                return cpu::attend(registers, q, (keys, values), sight.starts(), window, products);
            }
            AttentionKernel::Products => by_products(q, (keys, values), &sight.mask(window), products, heads),
            AttentionKernel::OneToken => {
                let bias = sight.bias(window, q.kind());
                let grouped = [batch, heads.n_kv_heads, heads.n_heads / heads.n_kv_heads, heads.d_head];
                fused(&q.reshape(grouped), (keys, values), Some(&bias), false, scale, false)
            }
            AttentionKernel::Fused { grouped } => {
                let causal = sight.is_causal(window);
                let bias = (!causal).then(|| sight.bias(window, q.kind()));
                fused(q, (keys, values), bias.as_ref(), causal, scale, grouped)
            }
        };
        z.reshape([batch, heads.n_heads, pos, heads.d_head]).transpose(1, 2).reshape([
            batch,
            pos,
            heads.n_heads * heads.d_head,
        ])
    }
}

fn fused(
    q: &Tensor,
    (keys, values): (&Tensor, &Tensor),
    bias: Option<&Tensor>,
    causal: bool,
    scale: f64,
    grouped: bool,
) -> Tensor {
    Tensor::scaled_dot_product_attention(q, keys, values, bias, 0.0, causal, Some(scale), grouped)
}

/// By plain products, whose scores are bounded where that is asked.
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
