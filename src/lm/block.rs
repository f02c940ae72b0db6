//! One block: a mixer and an MLP around the residual stream, with the norms and scales of a `Spec`. Independent of the
//! other blocks, except for keys and values shared from an earlier one.

use super::attention_mask::AttentionMask;
use super::backend::Backend;
use super::cache::Cache;
use super::feed_forward::FeedForward;
use super::mixer::Mixer;
use super::norm::Norm;
use super::per_layer::PerLayerBlock;
use super::rope::Rotation;
use super::spec::Residual;
use std::collections::HashMap;
use tch::{Device, Tensor};

/// One block of a decoder.
pub struct Block {
    /// Norm of the mixer's input.
    pub attn_norm: Option<Norm>,
    /// First half of the block.
    pub mixer: Mixer,
    /// Norm of the mixer's output.
    pub attn_post_norm: Option<Norm>,
    /// Norm of the input of the second half.
    pub mlp_norm: Option<Norm>,
    /// Second half of the block.
    pub mlp: FeedForward,
    /// Norm of the output of the second half.
    pub mlp_post_norm: Option<Norm>,
    /// How the two halves are added to the residual stream.
    pub residual: Residual,
    /// Multiplies the output of each half.
    pub residual_scale: f64,
    /// Per-layer embeddings.
    pub per_layer: Option<PerLayerBlock>,
    /// Multiplies the output of the block, `[1]`.
    pub scalar: Option<Tensor>,
}

/// State shared by all blocks in one pass.
pub struct Pass<'a> {
    /// Backend that computes the pass.
    pub backend: Backend,
    /// One for each of the decoder's frequencies.
    pub rotations: Vec<Rotation>,
    /// Attention mask of the tokens.
    pub mask: AttentionMask,
    /// Number of tokens of each row in this pass; padding follows them.
    pub lengths: Vec<usize>,
    /// Keys and values, or recurrent states, of earlier passes, with room for those of this one.
    pub cache: Option<&'a Cache>,
}

impl Block {
    /// `resid_post` for `resid_pre`, `[batch, pos, d_model]`, and the keys and values if the block computes its own.
    pub fn forward(
        &self,
        layer: usize,
        resid_pre: Tensor,
        per_layer_input: Option<Tensor>,
        pass: &Pass,
        shared: &HashMap<usize, (Tensor, Tensor)>,
    ) -> (Tensor, Option<(Tensor, Tensor)>) {
        let backend = pass.backend;
        let normed = |norm: &Option<Norm>, x: &Tensor| {
            norm.as_ref().map_or_else(|| x.shallow_clone(), |norm| norm.forward(x, backend))
        };
        let (attn_out, own) = self.mixer.forward(layer, &normed(&self.attn_norm, &resid_pre), pass, shared);
        let attn_out = self.scaled(normed(&self.attn_post_norm, &attn_out));
        let mlp_out = |resid: &Tensor| {
            let mlp_out = self.mlp.forward(resid, &normed(&self.mlp_norm, resid), backend);
            self.scaled(normed(&self.mlp_post_norm, &mlp_out))
        };
        let mut resid = match self.residual {
            Residual::Sequential => {
                let resid_mid = resid_pre + attn_out;
                let mlp_out = mlp_out(&resid_mid);
                resid_mid + mlp_out
            }
            Residual::Parallel => mlp_out(&resid_pre) + attn_out + resid_pre,
        };
        if let (Some(per_layer), Some(input)) = (&self.per_layer, per_layer_input) {
            resid = &resid + per_layer.forward(&resid, &input, backend);
        }
        if let Some(scalar) = &self.scalar {
            resid = &resid * scalar;
        }
        (resid, own)
    }

    /// Copy on `device`; shares storage if it is already there.
    pub fn on(&self, device: Device) -> Block {
        let norm = |norm: &Option<Norm>| norm.as_ref().map(|norm| norm.on(device));
        Block {
            attn_norm: norm(&self.attn_norm),
            mixer: self.mixer.on(device),
            attn_post_norm: norm(&self.attn_post_norm),
            mlp_norm: norm(&self.mlp_norm),
            mlp: self.mlp.on(device),
            mlp_post_norm: norm(&self.mlp_post_norm),
            per_layer: self.per_layer.as_ref().map(|per_layer| per_layer.on(device)),
            scalar: self.scalar.as_ref().map(|scalar| scalar.to_device(device)),
            ..*self
        }
    }

    fn scaled(&self, x: Tensor) -> Tensor {
        if self.residual_scale == 1.0 { x } else { x * self.residual_scale }
    }
}
