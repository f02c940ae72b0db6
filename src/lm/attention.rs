//! Causal self-attention with grouped key and value heads. Independent of the residual stream around it and of batches:
//! right padding never reaches a real token under the causal mask.

use super::attention_mask::AttentionMask;
use super::backend::Backend;
use super::cpu::Products;
use super::linear::{Linear, Linears};
use super::norm::{Norm, RmsNorm};
use super::rope::Rotation;
use super::spec::{Activation, QkNorm};
use tch::{Device, Tensor};

/// The attention of one block.
pub struct Attention {
    /// Query projection, `d_model -> n_heads * d_head`; with `kv`, also keys and possibly values,
    /// `d_model -> n_kv_heads * d_head` each.
    pub qkv: Linears,
    /// Norm of the queries.
    pub q_norm: Option<Norm>,
    /// Norms of keys and values; `None`: another layer's keys and values are used.
    pub kv: Option<KeysValues>,
    /// `n_heads * d_head -> d_model`
    pub o: Linear,
    /// Over which entries the norms of queries and keys run.
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
    /// Whether the last projection is the output gate, `d_model -> n_heads * d_head`.
    pub gate: bool,
}

/// Norms of a block's own keys and values; without a value projection, the values are the projected keys.
pub struct KeysValues {
    /// Norm of the keys.
    pub k_norm: Option<Norm>,
    /// Norm of the values, over each head.
    pub v_norm: Option<RmsNorm>,
}

/// Projections of a block's input: queries, `[batch, n_heads, pos, d_head]`, and keys and values,
/// `[batch, n_kv_heads, pos, d_head]` each, if the block has its own.
pub struct Projected {
    /// Queries.
    pub q: Tensor,
    /// Keys and values.
    pub kv: Option<(Tensor, Tensor)>,
    /// Output gate, `[batch, pos, n_heads * d_head]`.
    pub gate: Option<Tensor>,
}

impl Attention {
    /// Copy on `device`.
    pub fn on(&self, device: Device) -> Attention {
        let norm = |norm: &Option<Norm>| norm.as_ref().map(|norm| norm.on(device));
        let kv = self.kv.as_ref().map(|kv| KeysValues {
            k_norm: norm(&kv.k_norm),
            v_norm: kv.v_norm.as_ref().map(|norm| norm.on(device)),
        });
        let (qkv, o, q_norm) = (self.qkv.on(device), self.o.on(device), norm(&self.q_norm));
        Attention { qkv, q_norm, kv, o, ..*self }
    }

    /// Projects a normalised residual `[batch, pos, d_model]`.
    pub fn project(&self, x: &Tensor, rotation: Option<&Rotation>, backend: Backend) -> Projected {
        let (n, n_kv) = (self.n_heads, self.n_kv_heads);
        let no_norms =
            !self.gate && self.q_norm.is_none() && self.kv.as_ref().is_some_and(|kv| kv.k_norm.is_none());
        if let (Linears::Joined(all, counts), Some(rotation), true) = (&self.qkv, rotation, no_norms) {
            // Queries and keys are adjacent and rotated in the same way, so they are rotated at once.
            let y = all.forward(x, backend);
            let (of_q, of_k) = (counts[0], counts[1]);
            let turned = rotation.apply(&self.heads(&y.narrow(-1, 0, of_q + of_k), n + n_kv), backend);
            let v = match counts.get(2) {
                Some(&of_v) => y.narrow(-1, of_q + of_k, of_v),
                None => y.narrow(-1, of_q, of_k),
            };
            let kv = Some((turned.narrow(1, n, n_kv), self.values(&v, backend)));
            return Projected { q: turned.narrow(1, 0, n), kv, gate: None };
        }
        let mut each = self.qkv.forward(x, backend);
        let gate = if self.gate { each.pop() } else { None };
        let kv = self.kv.as_ref().map(|kv| {
            let v = self.values(each.get(2).unwrap_or(&each[1]), backend);
            (self.prepare(&each[1], n_kv, kv.k_norm.as_ref(), rotation, backend), v)
        });
        let q = self.prepare(&each[0], n, self.q_norm.as_ref(), rotation, backend);
        Projected { q, kv, gate }
    }

    /// `attn_out`, `[batch, pos, d_model]`, for queries `[batch, n_heads, pos, d_head]`. `keys` and `values` are
    /// `[batch, n_kv_heads, slots, d_head]`.
    pub fn forward(
        &self,
        q: &Tensor,
        (keys, values): (&Tensor, &Tensor),
        gate: Option<&Tensor>,
        mask: &AttentionMask,
        window: Option<usize>,
        backend: Backend,
    ) -> Tensor {
        let products = Products { scale: self.scale, cap: self.cap };
        let z = backend.attend(q, (keys, values), mask, window, products);
        let z = match gate {
            None => z,
            Some(gate) => backend.gate(Activation::Sigmoid, gate, &z),
        };
        self.o.forward(&z, backend)
    }

    /// `[batch, pos, n_kv_heads * d_head]` to `[batch, n_kv_heads, pos, d_head]`, with the values' norm.
    fn values(&self, y: &Tensor, backend: Backend) -> Tensor {
        match self.kv.as_ref().and_then(|kv| kv.v_norm.as_ref()) {
            Some(norm) => norm.forward(&self.apart(y, self.n_kv_heads), backend).transpose(1, 2),
            None => self.heads(y, self.n_kv_heads),
        }
    }

    /// `[batch, pos, n * d_head]` to `[batch, n, pos, d_head]`, with norm and rotation.
    fn prepare(
        &self,
        y: &Tensor,
        n: i64,
        norm: Option<&Norm>,
        rotation: Option<&Rotation>,
        backend: Backend,
    ) -> Tensor {
        let heads = match (norm, self.qk_norm) {
            (Some(norm), QkNorm::Whole) => self.heads(&norm.forward(y, backend), n),
            // Each head by itself, while its entries are contiguous.
            (Some(norm), _) => norm.forward(&self.apart(y, n), backend).transpose(1, 2),
            (None, _) => self.heads(y, n),
        };
        rotation.map_or_else(|| heads.shallow_clone(), |rotation| rotation.apply(&heads, backend))
    }

    fn heads(&self, y: &Tensor, n: i64) -> Tensor {
        self.apart(y, n).transpose(1, 2)
    }

    /// `[batch, pos, n * d_head]` to `[batch, pos, n, d_head]`.
    fn apart(&self, y: &Tensor, n: i64) -> Tensor {
        y.view([y.size()[0], y.size()[1], n, self.d_head])
    }
}
