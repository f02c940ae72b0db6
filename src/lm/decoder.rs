//! The forward pass, shared by all model families. Depends only on a `Spec`; independent of tokenizers, hooks and
//! family names. Nothing here disables gradients or works in place, so the same code can be trained.

use super::assemble::{BlockTensors, norm};
use super::attention_mask::AttentionMask;
use super::backend::Backend;
use super::batch;
use super::block::{Block, Pass};
use super::cache::Cache;
use super::device::send;
use super::layer::Layer as At;
use super::mixer::Mixer;
use super::norm::Norm;
use super::partial::PartialPass;
use super::per_layer::PerLayer;
use super::read_ahead::Pages;
use super::rope::Frequencies;
use super::spec::{KeyValues, Layer, Rope, Spec, per_layer};
use super::weights;
use anyhow::{Context, Result};
use std::collections::{BTreeSet, HashMap};
use std::ops::Deref;
use tch::{Device, Kind, Tensor};

/// Increased when the forward pass gives different numbers, even in the last bits, for a checkpoint that it already
/// supported. Part of the cache key of everything that a model computes.
pub const VERSION: u32 = 7;

/// A decoder-only transformer: embedding, blocks, final norm, unembedding.
pub struct Decoder {
    /// Device of the activations.
    device: Device,
    /// Backend that computes on it.
    backend: Backend,
    /// Whether blocks are copied to the device when they are used; otherwise all weights are on it.
    streamed: bool,
    /// The dtype of activations and arithmetic.
    kind: Kind,
    embed: Tensor,
    embed_scale: f64,
    /// Position embedding, added to the token embedding, `[context, d_model]`.
    positions: Option<Tensor>,
    per_layer: Option<PerLayer>,
    blocks: Vec<Block>,
    /// Memory ranges of the weights of each streamed block.
    pages: Vec<Pages>,
    final_norm: Norm,
    unembed: Tensor,
    logit_divisor: f64,
    logit_cap: Option<f64>,
    /// The distinct rotary frequencies of the blocks.
    frequencies: Vec<Frequencies>,
    /// Layers whose keys and values are reused by later layers.
    sources: BTreeSet<usize>,
}

impl Decoder {
    /// Takes every tensor of `spec.tensors()` out of `tensors`. They are used unchanged (dtype, device,
    /// `requires_grad`) and shared, not copied, except those that the checkpoint stores in another layout. Computes in
    /// the dtype of the embedding.
    ///
    /// # Errors
    /// Tensors that are missing, unexpected or of the wrong shape; the error names all of them.
    pub fn from_tensors(spec: &Spec, tensors: &mut HashMap<String, Tensor>) -> Result<Decoder> {
        let embed = tensors.get(&format!("{}.weight", spec.names.embed));
        Decoder::computing(spec, tensors, embed.map_or(Kind::Float, Tensor::kind))
    }

    /// Like [`Decoder::from_tensors`], with activations and arithmetic in dtype `kind` regardless of the tensors'
    /// dtype: each tensor is converted whenever it is used, with the same results as converting it beforehand.
    ///
    /// # Errors
    /// See [`Decoder::from_tensors`].
    pub fn computing(spec: &Spec, tensors: &mut HashMap<String, Tensor>, kind: Kind) -> Result<Decoder> {
        Decoder::build(spec, tensors, kind, None)
    }

    /// Like [`Decoder::computing`], with activations on `device`: each block is copied there whenever it is used, and
    /// dropped afterwards. Lookup tables (embeddings) stay where they are.
    ///
    /// # Errors
    /// See [`Decoder::from_tensors`].
    pub fn streaming(
        spec: &Spec,
        tensors: &mut HashMap<String, Tensor>,
        kind: Kind,
        device: Device,
    ) -> Result<Decoder> {
        Decoder::build(spec, tensors, kind, Some(device))
    }

    /// Streams the blocks to the device in `streamed`, if there is one.
    fn build(
        spec: &Spec,
        tensors: &mut HashMap<String, Tensor>,
        kind: Kind,
        streamed: Option<Device>,
    ) -> Result<Decoder> {
        weights::take_spare(spec, tensors)?;
        weights::check(spec, tensors.iter().map(|(name, t)| (name.as_str(), t.size())))?;
        let trains = tensors.values().any(Tensor::requires_grad);
        let mut take =
            |name: &str| tensors.remove(name).with_context(|| format!("tensor `{name}` is missing"));
        let embed = take(&format!("{}.weight", spec.names.embed))?;
        let device = streamed.unwrap_or(embed.device());
        let mut ropes: Vec<&Rope> = Vec::new();
        let mut blocks = Vec::with_capacity(spec.n_layers());
        let mut pages = vec![Pages::default(); if streamed.is_some() { spec.n_layers() } else { 0 }];
        for (layer, of) in spec.layers.iter().enumerate() {
            let rope = of.attention().and_then(|attention| attention.rope.as_ref());
            let rotation = rope.map(|rope| {
                ropes.iter().position(|known| *known == rope).unwrap_or_else(|| {
                    ropes.push(rope);
                    ropes.len() - 1
                })
            });
            let prefix = spec.block(layer);
            let mut take = |name: &str| {
                let tensor = take(&format!("{prefix}{name}"))?;
                pages.get_mut(layer).into_iter().for_each(|pages| pages.add(&tensor));
                Ok(tensor)
            };
            let mut tensors = BlockTensors { spec, of, take: &mut take };
            let block = tensors.block(layer, rotation)?;
            blocks.push(if streamed.is_some() { block } else { block.on(device) });
        }
        let unembed = match spec.tied {
            true => embed.shallow_clone(),
            false => take(&format!("{}.weight", spec.names.unembed))?,
        };
        let positions = spec.names.position_embed.map(|name| take(&format!("{name}.weight"))).transpose()?;
        let final_norm = norm(spec, spec.names.final_norm, &mut take)?.on(device);
        let per_layer = match spec.per_layer_embed {
            None => None,
            Some(of) => Some(PerLayer {
                table: take(per_layer::EMBED)?,
                projection: take(per_layer::PROJECTION)?,
                norm: norm(spec, per_layer::NORM, &mut take)?.on(device),
                scale: rounded((of.width as f64).sqrt(), kind),
                width: of.width as i64,
            }),
        };
        let source = |layer: &Layer| match layer.attention()?.kv {
            KeyValues::Of(source) => Some(source),
            _ => None,
        };
        Ok(Decoder {
            device,
            backend: if trains { Backend::Cpu } else { Backend::chosen(device)? },
            streamed: streamed.is_some(),
            kind,
            embed_scale: rounded(spec.embed_scale, kind),
            positions,
            per_layer,
            blocks,
            pages,
            final_norm,
            unembed,
            logit_divisor: spec.logit_divisor,
            logit_cap: spec.logit_cap,
            frequencies: ropes.into_iter().map(|rope| Frequencies::new(rope, device)).collect(),
            sources: spec.layers.iter().filter_map(source).collect(),
            embed,
        })
    }

    /// The residual stream after the last block, `[batch, pos, d_model]`, for token ids `[batch, pos]` (int64, on the
    /// decoder's device). Every row starts at position 0 and has no padding.
    pub fn forward(&self, ids: &Tensor) -> Tensor {
        let lengths = vec![ids.size()[1] as usize; ids.size()[0] as usize];
        self.run(ids, &lengths, None, self.last(), &mut |_, resid| resid)
    }

    /// The output of the last block.
    pub fn last(&self) -> At {
        At::Block(self.blocks.len() - 1)
    }

    /// Runs all blocks up to `last` on token ids `[batch, pos]`, padded on the right, or packed, `[1, tokens]`, where the
    /// backend [packs](Backend::packs); `lengths` are the numbers of real tokens in each row's sequence so far. With a
    /// cache, the pass either fills it or is one step after it (see [`Cache`]). `resid_post` receives the residual stream
    /// at each layer, starting with the embedding, and returns the residual stream to continue with.
    pub fn run(
        &self,
        ids: &Tensor,
        lengths: &[usize],
        cache: Option<&Cache>,
        last: At,
        resid_post: &mut dyn FnMut(At, Tensor) -> Tensor,
    ) -> Tensor {
        let pass = self.pass(ids, lengths, cache);
        let mut so_far = self.begin(ids, lengths, &pass);
        so_far.change(resid_post);
        self.go_on(&mut so_far, &pass, last, resid_post);
        so_far.resid
    }

    /// Computes the lower part of a pass and keeps it at each of `layers`, so that other passes can continue from
    /// there. If blocks are streamed, the kept passes are held in host memory.
    pub fn keep(&self, ids: &Tensor, lengths: &[usize], layers: &[At]) -> Vec<PartialPass> {
        let pass = self.pass(ids, lengths, None);
        let mut so_far = self.begin(ids, lengths, &pass);
        let mut order: Vec<usize> = (0..layers.len()).collect();
        order.sort_by_key(|&which| layers[which]);
        let mut kept = Vec::with_capacity(layers.len());
        for which in order {
            self.go_on(&mut so_far, &pass, layers[which], &mut |_, resid| resid);
            kept.push((which, so_far.on(if self.streamed { Device::Cpu } else { self.device })));
        }
        kept.sort_by_key(|(which, _)| *which);
        kept.into_iter().map(|(_, kept)| kept).collect()
    }

    /// Continues a kept pass up to `last`, with the same numbers as the whole pass. `resid_post` first sees the
    /// residual stream at the layer where the pass was kept.
    pub fn run_from(
        &self,
        kept: &PartialPass,
        last: At,
        resid_post: &mut dyn FnMut(At, Tensor) -> Tensor,
    ) -> Tensor {
        let mut so_far = kept.on(self.device);
        let pass = self.pass(&so_far.ids, &so_far.lengths, None);
        so_far.change(resid_post);
        self.go_on(&mut so_far, &pass, last, resid_post);
        so_far.resid
    }

    /// Whether blocks are copied to the device one by one.
    pub fn is_streamed(&self) -> bool {
        self.streamed
    }

    /// Runs all blocks up to `last` on several batches (see [`run`](Decoder::run)), each block on all batches before
    /// the next block, so that a streamed block is copied once. `resid_post` receives the index of the batch.
    pub fn run_all(
        &self,
        batches: &[Waiting],
        last: At,
        resid_post: &mut dyn FnMut(usize, At, Tensor) -> Tensor,
    ) {
        let begin = |(batch, Waiting { ids, lengths, place }): (usize, &Waiting)| {
            let mut so_far = self.begin(ids, lengths, &self.pass(ids, lengths, None));
            so_far.change(&mut |layer, resid| resid_post(batch, layer, resid));
            so_far.on(*place)
        };
        let mut waiting: Vec<PartialPass> = batches.iter().enumerate().map(begin).collect();
        for layer in 0..last.blocks() {
            let block = self.block(layer, last);
            for (batch, (Waiting { ids, lengths, place }, waiting)) in
                batches.iter().zip(&mut waiting).enumerate()
            {
                let mut so_far = waiting.on(self.device);
                self.step(layer, &block, &mut so_far, &self.pass(ids, lengths, None));
                so_far.change(&mut |layer, resid| resid_post(batch, layer, resid));
                *waiting = so_far.on(*place);
            }
        }
    }

    /// A block on the device where it is computed, in a pass up to `last`. If blocks are streamed, the next one is read
    /// from its file in the meantime.
    fn block(&self, layer: usize, last: At) -> Here<'_> {
        let next = self.pages.get(layer + 1).filter(|_| layer + 1 < last.blocks());
        next.into_iter().for_each(Pages::read_ahead);
        match self.streamed {
            true => Here::Copy(Box::new(self.blocks[layer].on(self.device))),
            false => Here::Held(&self.blocks[layer]),
        }
    }

    fn begin(&self, ids: &Tensor, lengths: &[usize], pass: &Pass) -> PartialPass {
        let embedded = self.embed(ids, pass.mask.positions());
        PartialPass {
            layer: At::Embed,
            ids: ids.shallow_clone(),
            lengths: lengths.to_vec(),
            resid: embedded.shallow_clone(),
            embedded: self.per_layer.as_ref().map(|_| embedded),
            shared: HashMap::new(),
        }
    }

    /// Runs the blocks from the current layer up to `last`.
    fn go_on(
        &self,
        so_far: &mut PartialPass,
        pass: &Pass,
        last: At,
        resid_post: &mut dyn FnMut(At, Tensor) -> Tensor,
    ) {
        for layer in so_far.layer.blocks()..last.blocks() {
            self.step(layer, &self.block(layer, last), so_far, pass);
            so_far.change(resid_post);
        }
    }

    /// One block.
    fn step(&self, layer: usize, block: &Block, so_far: &mut PartialPass, pass: &Pass) {
        let PartialPass { layer: at, ids, resid, embedded, shared, .. } = so_far;
        let input = self.per_layer.as_ref().zip(embedded.as_ref());
        let input = input.map(|(all, embedded)| all.input(layer, ids, embedded, self.backend));
        let before = std::mem::replace(resid, Tensor::new()); // so that the block can free its memory
        let (out, keys_values) = block.forward(layer, before, input, pass, shared);
        if let Some(keys_values) = keys_values.filter(|_| self.sources.contains(&layer)) {
            shared.insert(layer, keys_values);
        }
        (*resid, *at) = (out, At::Block(layer));
    }

    /// Logits `[.., d_vocab]` for residuals `[.., d_model]`: final norm, then unembedding.
    pub fn unembed(&self, resid: &Tensor) -> Tensor {
        let unembed = self.unembed.to_device(self.device);
        let logits = self.backend.linear(&self.final_norm.forward(resid, self.backend), &unembed, None);
        let logits = if self.logit_divisor == 1.0 { logits } else { logits / self.logit_divisor };
        match self.logit_cap {
            None => logits,
            Some(cap) => (logits / cap).tanh() * cap,
        }
    }

    /// The final norm.
    pub fn final_norm(&self) -> &Norm {
        &self.final_norm
    }

    /// The unembedding, `[d_vocab, d_model]`.
    pub fn unembed_weight(&self) -> &Tensor {
        &self.unembed
    }

    /// Device of the activations.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Backend that computes on it.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Sets the backend, which must be one of [`Backend::all`] of the device.
    pub fn set_backend(&mut self, backend: Backend) {
        assert!(Backend::all(self.device).contains(&backend), "{backend:?} on {:?}", self.device);
        self.backend = backend;
    }

    /// Whether it computes packed rows. A gated delta net goes through a batch position by position.
    pub fn packs(&self) -> bool {
        let attends = |block: &Block| matches!(block.mixer, Mixer::Attention(_));
        self.backend.packs(self.kind) && self.blocks.iter().all(attends)
    }

    /// The dtype of activations and arithmetic.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The number of tokens beyond which a sequence is recomputed from its start, if the model has one.
    pub fn original_context(&self) -> Option<usize> {
        self.frequencies.iter().filter_map(Frequencies::original_context).min()
    }

    /// Input of the first block: the token embeddings of `ids` plus the position embeddings, if the model has them.
    fn embed(&self, ids: &Tensor, positions: &Tensor) -> Tensor {
        let rows = |table: &Tensor, at: &Tensor| {
            let rows = Tensor::embedding(table, &at.to_device(table.device()), -1, false, false);
            rows.to_device(self.device).to_kind(self.kind)
        };
        let tokens = rows(&self.embed, ids);
        let tokens = if self.embed_scale == 1.0 { tokens } else { tokens * self.embed_scale };
        match &self.positions {
            None => tokens,
            Some(table) => tokens + rows(table, positions),
        }
    }

    fn pass<'a>(&self, ids: &Tensor, lengths: &[usize], cache: Option<&'a Cache>) -> Pass<'a> {
        let device = self.device();
        let step = cache.and_then(Cache::step);
        let pos = ids.size()[1];
        if batch::is_packed(ids, lengths.len()) {
            assert!(self.packs() && cache.is_none(), "{:?} does not compute packed rows", self.backend);
            let at: Vec<i64> = lengths.iter().flat_map(|&length| 0..length as i64).collect();
            let positions = send(&Tensor::from_slice(&at).unsqueeze(0), device);
            let each: Vec<usize> = lengths.iter().flat_map(|&length| vec![length; length]).collect();
            let rotations = self.frequencies.iter().map(|f| f.at(&positions, &each, true)).collect();
            let mask = AttentionMask::packed(&positions, lengths);
            return Pass { backend: self.backend, rotations, mask, lengths: lengths.to_vec(), cache };
        }
        let (positions, mask) = match step {
            Some(step) => (
                step.positions.shallow_clone(),
                AttentionMask::new(&step.positions, &step.starts, step.slots),
            ),
            None => {
                let positions = Tensor::arange(pos, (Kind::Int64, device)).unsqueeze(0);
                let mask = AttentionMask::new(&positions, &vec![0; lengths.len()], pos);
                (positions, mask)
            }
        };
        let rotations = self.frequencies.iter().map(|f| f.at(&positions, lengths, false)).collect();
        let lengths = lengths.iter().zip(mask.rows()).map(|(end, row)| end - row.start).collect();
        Pass { backend: self.backend, rotations, mask, lengths, cache }
    }
}

/// A batch in [`Decoder::run_all`], which waits while other batches go through a block.
pub struct Waiting {
    /// Token ids, `[batch, pos]` or `[1, tokens]`, on the decoder's device.
    pub ids: Tensor,
    /// Real tokens of each row.
    pub lengths: Vec<usize>,
    /// Device of its residual stream while other batches go through a block.
    pub place: Device,
}

/// A block on the device of the activations.
enum Here<'a> {
    Held(&'a Block),
    Copy(Box<Block>),
}

impl Deref for Here<'_> {
    type Target = Block;

    fn deref(&self) -> &Block {
        match self {
            Here::Held(block) => block,
            Here::Copy(block) => block,
        }
    }
}

/// `x` rounded to the model's dtype.
fn rounded(x: f64, kind: Kind) -> f64 {
    Tensor::from(x).to_kind(kind).double_value(&[])
}
