//! Causal self-attention with grouped key and value heads. Knows nothing of the residual stream
//! around it, nor of batches: right padding never reaches a real token under the causal mask.

use super::cpu;
use super::linear::{Linear, Linears};
use super::norm::{Norm, RmsNorm};
use super::rope::Rotation;
use super::sight::Sight;
use super::spec::{Activation, QkNorm};
use tch::{Device, Kind, Tensor};

/// The attention of one block.
pub struct Attention {
    /// Queries, `d_model -> n_heads * d_head`; with `kv`, keys and perhaps values, `d_model -> n_kv_heads * d_head` each.
    pub qkv: Linears,
    /// Norm of the queries.
    pub q_norm: Option<Norm>,
    /// Norms of keys and values; `None`: another layer's keys and values are used.
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
    /// Whether the last of the projections is the output's gate, `d_model -> n_heads * d_head`.
    pub gate: bool,
}

/// How a block makes keys and values of what it projects; without a projection of their own the values are that of the keys.
pub struct KeysValues {
    /// Norm of the keys.
    pub k_norm: Option<Norm>,
    /// Norm of the values, over each head.
    pub v_norm: Option<RmsNorm>,
}

/// Of a block's input: queries, `[batch, n_heads, pos, d_head]`, and keys and values, `[batch, n_kv_heads, pos, d_head]`
/// each, where the block has its own.
pub struct Projected {
    /// Queries.
    pub q: Tensor,
    /// Keys and values.
    pub kv: Option<(Tensor, Tensor)>,
    /// What gates the output, `[batch, pos, n_heads * d_head]`.
    pub gate: Option<Tensor>,
}

impl Attention {
    /// The same on `device`.
    pub fn on(&self, device: Device) -> Attention {
        let norm = |norm: &Option<Norm>| norm.as_ref().map(|norm| norm.on(device));
        let kv = self.kv.as_ref().map(|kv| KeysValues {
            k_norm: norm(&kv.k_norm),
            v_norm: kv.v_norm.as_ref().map(|norm| norm.on(device)),
        });
        let (qkv, o, q_norm) = (self.qkv.on(device), self.o.on(device), norm(&self.q_norm));
        Attention { qkv, q_norm, kv, o, ..*self }
    }

    /// What is made of a normalised residual `[batch, pos, d_model]`.
    pub fn project(&self, x: &Tensor, rotation: Option<&Rotation>) -> Projected {
        let (n, n_kv) = (self.n_heads, self.n_kv_heads);
        let no_norms =
            !self.gate && self.q_norm.is_none() && self.kv.as_ref().is_some_and(|kv| kv.k_norm.is_none());
        if let (Linears::Joined(all, counts), Some(rotation), true) = (&self.qkv, rotation, no_norms) {
            // Queries and keys stand side by side and are rotated alike: at once.
            let y = all.forward(x);
            let (of_q, of_k) = (counts[0], counts[1]);
            let turned = rotation.apply(&self.heads(&y.narrow(-1, 0, of_q + of_k), n + n_kv));
            let v = match counts.get(2) {
                Some(&of_v) => y.narrow(-1, of_q + of_k, of_v),
                None => y.narrow(-1, of_q, of_k),
            };
            let kv = Some((turned.narrow(1, n, n_kv), self.values(&v)));
            return Projected { q: turned.narrow(1, 0, n), kv, gate: None };
        }
        let mut each = self.qkv.forward(x);
        let gate = if self.gate { each.pop() } else { None };
        let kv = self.kv.as_ref().map(|kv| {
            let v = self.values(each.get(2).unwrap_or(&each[1]));
            (self.prepare(&each[1], n_kv, kv.k_norm.as_ref(), rotation), v)
        });
        Projected { q: self.prepare(&each[0], n, self.q_norm.as_ref(), rotation), kv, gate }
    }

    /// `attn_out`, `[batch, pos, d_model]`, of queries `[batch, n_heads, pos, d_head]`. `keys` and `values` are
    /// `[batch, n_kv_heads, slots, d_head]`.
    pub fn forward(
        &self,
        q: &Tensor,
        (keys, values): (&Tensor, &Tensor),
        gate: Option<&Tensor>,
        sight: &Sight,
        window: Option<usize>,
    ) -> Tensor {
        let (batch, pos) = (q.size()[0], q.size()[2]);
        let products = cpu::Products { scale: self.scale, cap: self.cap };
        if let Some(z) = cpu::attend(q, keys, values, sight.starts(), window, products) {
            return self.o.forward(&gated(z, gate));
        }
        let z = match self.cap {
            Some(cap) => self.capped(q, keys, values, &sight.mask(window), cap),
            None if pos == 1 => self.one_token(q, keys, values, &sight.bias(window, q.kind())),
            None => {
                let causal = sight.is_causal(window);
                Tensor::scaled_dot_product_attention(
                    q,
                    keys,
                    values,
                    (!causal).then(|| sight.bias(window, q.kind())),
                    0.0,
                    causal,
                    Some(self.scale),
                    self.n_heads != self.n_kv_heads,
                )
            }
        };
        self.o.forward(&gated(z.transpose(1, 2).reshape([batch, pos, self.n_heads * self.d_head]), gate))
    }

    /// `[batch, pos, n_kv_heads * d_head]` to `[batch, n_kv_heads, pos, d_head]`, with the values' norm.
    fn values(&self, y: &Tensor) -> Tensor {
        match self.kv.as_ref().and_then(|kv| kv.v_norm.as_ref()) {
            Some(norm) => norm.forward(&self.apart(y, self.n_kv_heads)).transpose(1, 2),
            None => self.heads(y, self.n_kv_heads),
        }
    }

    /// `[batch, pos, n * d_head]` to `[batch, n, pos, d_head]`, with norm and rotation.
    fn prepare(&self, y: &Tensor, n: i64, norm: Option<&Norm>, rotation: Option<&Rotation>) -> Tensor {
        let heads = match (norm, self.qk_norm) {
            (Some(norm), QkNorm::Whole) => self.heads(&norm.forward(y), n),
            // Of each head by itself, while its numbers stand side by side.
            (Some(norm), _) => norm.forward(&self.apart(y, n)).transpose(1, 2),
            (None, _) => self.heads(y, n),
        };
        rotation.map_or_else(|| heads.shallow_clone(), |rotation| rotation.apply(&heads))
    }

    fn heads(&self, y: &Tensor, n: i64) -> Tensor {
        self.apart(y, n).transpose(1, 2)
    }

    /// `[batch, pos, n * d_head]` to `[batch, pos, n, d_head]`.
    fn apart(&self, y: &Tensor, n: i64) -> Tensor {
        y.view([y.size()[0], y.size()[1], n, self.d_head])
    }

    /// Attention of one query position: the query heads that share a key head stand side by side as
    /// if they were positions, so that no key is copied. `q` is `[batch, n_heads, 1, d_head]`, `bias`
    /// is `[batch, 1, 1, slots]`.
    fn one_token(&self, q: &Tensor, k: &Tensor, v: &Tensor, bias: &Tensor) -> Tensor {
        let batch = q.size()[0];
        let grouped = q.reshape([batch, self.n_kv_heads, self.n_heads / self.n_kv_heads, self.d_head]);
        let z = Tensor::scaled_dot_product_attention(
            &grouped,
            k,
            v,
            Some(bias),
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

/// `z` times the sigmoid of `gate`, where there is one.
fn gated(z: Tensor, gate: Option<&Tensor>) -> Tensor {
    match gate {
        None => z,
        Some(gate) => Activation::Sigmoid.gate(gate, &z),
    }
}
