//! Causal self-attention with grouped key and value heads. Knows nothing of the residual stream
//! around it, nor of batches: right padding never reaches a real token under the causal mask.

use super::cpu;
use super::linear::Linear;
use super::norm::RmsNorm;
use super::rope::Rotation;
use super::sight::Sight;
use super::spec::QkNorm;
use tch::{Device, Kind, Tensor};

/// The attention of one block.
pub struct Attention {
    /// `d_model -> n_heads * d_head`
    pub q: Linear,
    /// Norm of the queries.
    pub q_norm: Option<RmsNorm>,
    /// Keys and values; `None`: another layer's are used.
    pub kv: Option<KeysValues>,
    /// `n_heads * d_head -> d_model`
    pub o: Linear,
    /// What the norms of queries and keys run over.
    pub qk_norm: QkNorm,
    /// Query heads.
    pub n_heads: i64,
    /// Key and value heads.
    pub n_kv_heads: i64,
    /// Width of a head.
    pub d_head: i64,
    /// Multiplies query-key products.
    pub scale: f64,
    /// Bounds the scaled products to `cap * tanh(product / cap)`.
    pub cap: Option<f64>,
}

/// How a block makes keys and values.
pub struct KeysValues {
    /// `d_model -> n_kv_heads * d_head`
    pub k: Linear,
    /// `d_model -> n_kv_heads * d_head`; `None`: the values are what `k` gives.
    pub v: Option<Linear>,
    /// Norm of the keys.
    pub k_norm: Option<RmsNorm>,
    /// Norm of the values, over each head.
    pub v_norm: Option<RmsNorm>,
}

impl Attention {
    /// The same on `device`.
    pub fn on(&self, device: Device) -> Attention {
        let norm = |norm: &Option<RmsNorm>| norm.as_ref().map(|norm| norm.on(device));
        let kv = self.kv.as_ref().map(|kv| KeysValues {
            k: kv.k.on(device),
            v: kv.v.as_ref().map(|v| v.on(device)),
            k_norm: norm(&kv.k_norm),
            v_norm: norm(&kv.v_norm),
        });
        let (q, o, q_norm) = (self.q.on(device), self.o.on(device), norm(&self.q_norm));
        Attention { q, q_norm, kv, o, ..*self }
    }

    /// Keys and values, `[batch, n_kv_heads, pos, d_head]` each, of a normalised residual
    /// `[batch, pos, d_model]`; `None` where the block uses another layer's.
    pub fn keys_values(&self, x: &Tensor, rotation: Option<&Rotation>) -> Option<(Tensor, Tensor)> {
        let kv = self.kv.as_ref()?;
        let k = kv.k.forward(x);
        let v = match &kv.v {
            Some(v) => v.forward(x),
            None => k.shallow_clone(),
        };
        let v = self.heads(&v, self.n_kv_heads);
        let v = kv.v_norm.as_ref().map_or_else(|| v.shallow_clone(), |norm| norm.forward(&v));
        Some((self.prepare(&k, self.n_kv_heads, kv.k_norm.as_ref(), rotation), v))
    }

    /// `attn_out` of a normalised residual: `[batch, pos, d_model]` to the same shape. `keys` and
    /// `values` are `[batch, n_kv_heads, slots, d_head]`.
    pub fn forward(
        &self,
        x: &Tensor,
        rotation: Option<&Rotation>,
        (keys, values): (&Tensor, &Tensor),
        sight: &Sight,
        window: Option<usize>,
    ) -> Tensor {
        let (batch, pos) = (x.size()[0], x.size()[1]);
        let q = self.prepare(&self.q.forward(x), self.n_heads, self.q_norm.as_ref(), rotation);
        let products = cpu::Products { scale: self.scale, cap: self.cap };
        if let Some(z) = cpu::attend(&q, keys, values, sight.starts(), window, products) {
            return self.o.forward(&z);
        }
        let z = match self.cap {
            Some(cap) => self.capped(&q, keys, values, &sight.mask(window), cap),
            None if pos == 1 => self.one_token(&q, keys, values, &sight.mask(window)),
            None => {
                let causal = sight.is_causal(window);
                Tensor::scaled_dot_product_attention(
                    &q,
                    keys,
                    values,
                    (!causal).then(|| sight.mask(window)),
                    0.0,
                    causal,
                    Some(self.scale),
                    self.n_heads != self.n_kv_heads,
                )
            }
        };
        self.o.forward(&z.transpose(1, 2).reshape([batch, pos, self.n_heads * self.d_head]))
    }

    /// `[batch, pos, n * d_head]` to `[batch, n, pos, d_head]`, with norm and rotation.
    fn prepare(&self, y: &Tensor, n: i64, norm: Option<&RmsNorm>, rotation: Option<&Rotation>) -> Tensor {
        let heads = match (norm, self.qk_norm) {
            (Some(norm), QkNorm::Whole) => self.heads(&norm.forward(y), n),
            (Some(norm), _) => norm.forward(&self.heads(y, n)),
            (None, _) => self.heads(y, n),
        };
        rotation.map_or_else(|| heads.shallow_clone(), |rotation| rotation.apply(&heads))
    }

    fn heads(&self, y: &Tensor, n: i64) -> Tensor {
        y.view([y.size()[0], y.size()[1], n, self.d_head]).transpose(1, 2)
    }

    /// Attention of one query position: the query heads that share a key head stand side by side as
    /// if they were positions, so that no key is copied. `q` is `[batch, n_heads, 1, d_head]`, `mask`
    /// is `[batch, 1, 1, slots]`.
    fn one_token(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor) -> Tensor {
        let batch = q.size()[0];
        let grouped = q.reshape([batch, self.n_kv_heads, self.n_heads / self.n_kv_heads, self.d_head]);
        let z = Tensor::scaled_dot_product_attention(
            &grouped,
            k,
            v,
            Some(mask),
            0.0,
            false,
            Some(self.scale),
            false,
        );
        z.reshape([batch, self.n_heads, 1, self.d_head])
    }

    /// Attention with bounded products, which no fused kernel offers.
    fn capped(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor, cap: f64) -> Tensor {
        let (batch, pos) = (q.size()[0], q.size()[2]);
        let group = self.n_heads / self.n_kv_heads;
        let q = q.reshape([batch, self.n_kv_heads, group, pos, self.d_head]);
        let products = q.matmul(&k.unsqueeze(2).transpose(-1, -2)).to_kind(Kind::Float) * self.scale;
        let bounded = (products / cap).tanh() * cap;
        let hidden = mask.unsqueeze(1).logical_not();
        let weights = bounded.masked_fill(&hidden, f64::NEG_INFINITY).softmax(-1, Kind::Float);
        let z = weights.to_kind(v.kind()).matmul(&v.unsqueeze(2));
        z.reshape([batch, self.n_heads, pos, self.d_head])
    }
}
