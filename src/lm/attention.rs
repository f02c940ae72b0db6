//! Causal self-attention with grouped key and value heads. Knows nothing of the residual stream
//! around it, nor of batches: right padding never reaches a real token under the causal mask.

use super::cache::LayerCache;
use super::linear::Linear;
use super::rope::Rotation;
use tch::Tensor;

/// The attention of one block.
pub struct Attention {
    /// `d_model -> n_heads * d_head`
    pub q: Linear,
    /// `d_model -> n_kv_heads * d_head`
    pub k: Linear,
    /// `d_model -> n_kv_heads * d_head`
    pub v: Linear,
    /// `n_heads * d_head -> d_model`
    pub o: Linear,
    /// Query heads.
    pub n_heads: i64,
    /// Key and value heads.
    pub n_kv_heads: i64,
    /// Width of a head.
    pub d_head: i64,
}

impl Attention {
    /// `attn_out` of a normalised residual: `[batch, pos, d_model]` to the same shape. Without a
    /// cache, or while one is filled, each token sees those before it in its row; in a cached step
    /// the one new token of each row sees what the cache holds of that row.
    pub fn forward(&self, x: &Tensor, rotation: &Rotation, cache: Option<LayerCache>) -> Tensor {
        let (batch, pos) = (x.size()[0], x.size()[1]);
        let heads = |y: Tensor, n: i64| y.view([batch, pos, n, self.d_head]).transpose(1, 2);
        let q = rotation.apply(&heads(self.q.forward(x), self.n_heads));
        let k = rotation.apply(&heads(self.k.forward(x), self.n_kv_heads));
        let v = heads(self.v.forward(x), self.n_kv_heads);
        let z = match cache {
            None => causal(&q, &k, &v),
            Some(LayerCache::Fill(mut slots)) => {
                slots.fill(&k, &v);
                causal(&q, &k, &v)
            }
            Some(LayerCache::Step(mut slots, step)) => {
                let (k, v) = slots.append(&k, &v, step);
                self.one_token(&q, &k, &v, &step.mask)
            }
        };
        self.o.forward(&z.transpose(1, 2).reshape([batch, pos, self.n_heads * self.d_head]))
    }

    /// Attention of one query position: the query heads that share a key head stand side by side as
    /// if they were positions, so that no key is copied. `q` is `[batch, n_heads, 1, d_head]`, `k`
    /// and `v` are `[batch, n_kv_heads, slots, d_head]`, `mask` is `[batch, 1, 1, slots]`.
    fn one_token(&self, q: &Tensor, k: &Tensor, v: &Tensor, mask: &Tensor) -> Tensor {
        let batch = q.size()[0];
        let grouped = q.reshape([batch, self.n_kv_heads, self.n_heads / self.n_kv_heads, self.d_head]);
        let z = Tensor::scaled_dot_product_attention(&grouped, k, v, Some(mask), 0.0, false, None, false);
        z.reshape([batch, self.n_heads, 1, self.d_head])
    }
}

/// Every position sees itself and those before it. `q` is `[batch, n_heads, pos, d_head]`, `k` and
/// `v` are `[batch, n_kv_heads, pos, d_head]`.
fn causal(q: &Tensor, k: &Tensor, v: &Tensor) -> Tensor {
    let grouped = q.size()[1] != k.size()[1];
    Tensor::scaled_dot_product_attention::<&Tensor>(q, k, v, None, 0.0, true, None, grouped)
}
