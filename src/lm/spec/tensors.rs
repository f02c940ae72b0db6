//! The tensors implied by a [`Spec`]: their names and shapes, as stored in a checkpoint.

use super::*;

impl Spec {
    /// Every tensor of the model with its shape, in the order of the forward pass. A linear map is `[out, in]`, unless
    /// the names specify the other layout for blocks.
    pub fn tensors(&self) -> Vec<(String, Vec<i64>)> {
        let n = &self.names;
        let d_model = self.d_model as i64;
        let mut all = vec![(format!("{}.weight", n.embed), vec![self.d_vocab as i64, d_model])];
        if let Some(positions) = n.position_embed {
            all.push((format!("{positions}.weight"), vec![self.context as i64, d_model]));
        }
        if let Some(PerLayerEmbed { width, d_vocab }) = self.per_layer_embed {
            let all_layers = (self.n_layers() * width) as i64;
            all.push((per_layer::EMBED.into(), vec![d_vocab as i64, all_layers]));
            all.push((per_layer::PROJECTION.into(), vec![all_layers, d_model]));
            all.extend(self.norm_tensors(per_layer::NORM, width as i64));
        }
        for (layer, of) in self.layers.iter().enumerate() {
            all.extend(self.block_tensors(of).into_iter().map(|(name, shape)| {
                (format!("{}{name}", self.block(layer)), shape.into_iter().map(|n| n as i64).collect())
            }));
        }
        all.extend(self.norm_tensors(n.final_norm, d_model));
        if !self.tied {
            all.push((format!("{}.weight", n.unembed), vec![self.d_vocab as i64, d_model]));
        }
        all
    }

    /// Number of parameters in block `layer`.
    pub fn block_numbers(&self, layer: usize) -> u64 {
        let tensors = self.block_tensors(&self.layers[layer]);
        let numbers = tensors
            .iter()
            .map(|(_, shape)| shape.iter().fold(1u64, |n, &side| n.saturating_mul(side as u64)));
        numbers.fold(0, u64::saturating_add)
    }

    /// Number of parameters of the model. Safe for untrusted sizes: saturates at the largest number, and builds no
    /// list of names.
    pub fn numbers(&self) -> u64 {
        let product = |sides: &[usize]| sides.iter().fold(1u64, |n, &side| n.saturating_mul(side as u64));
        let rows = if self.tied { self.d_vocab } else { self.d_vocab.saturating_mul(2) };
        let mut numbers = product(&[rows, self.d_model]);
        if self.names.position_embed.is_some() {
            numbers = numbers.saturating_add(product(&[self.context, self.d_model]));
        }
        if let Some(PerLayerEmbed { width, d_vocab }) = self.per_layer_embed {
            let sides = product(&[d_vocab.saturating_add(self.d_model), self.n_layers(), width]);
            numbers = numbers.saturating_add(sides);
        }
        (0..self.n_layers()).fold(numbers, |sum, layer| sum.saturating_add(self.block_numbers(layer)))
    }

    /// Number of parameters in block `layer` whose stored layout differs from the one used for computation.
    pub fn relaid_numbers(&self, layer: usize) -> u64 {
        if self.names.layout == Layout::InOut {
            return self.block_numbers(layer);
        }
        let fused = match (self.names.qkv, self.layers[layer].attention()) {
            (QkvNames::FusedPerHead(_), Some(of)) => self.n_heads * of.d_head + 2 * of.d_kv(),
            _ => 0,
        };
        fused.saturating_mul(self.d_model) as u64
    }

    /// The tensors of one block, named relative to it.
    fn block_tensors(&self, of: &Layer) -> Vec<(String, Vec<usize>)> {
        let (n, d_model) = (&self.names, self.d_model);
        let mut all = match &of.mixer {
            Mixer::Attention(attention) => self.attention_tensors(attention),
            Mixer::GatedDelta(heads) => self.delta_tensors(*heads),
        };
        if let Some(d_mlp) = of.d_mlp {
            let wide = match n.mlp {
                MlpNames::Split(gate, up) => vec![(gate, d_mlp), (up, d_mlp)],
                MlpNames::Fused(name) => vec![(name, 2 * d_mlp)],
                MlpNames::Plain(name) => vec![(name, d_mlp)],
            };
            let into = wide.into_iter().map(|(name, out)| (name, out, d_model));
            for (name, out, inp) in into.chain([(n.down, d_model, d_mlp)]) {
                all.extend(self.linear_tensors(name, out, inp, self.mlp_bias));
            }
        }
        if let Some(experts) = of.experts {
            all.extend(self.expert_tensors(experts, of.d_mlp.is_some()));
        }
        for norm in [n.attn_norm, n.attn_post_norm, n.mlp_norm, n.mlp_post_norm].into_iter().flatten() {
            all.extend(self.norm_tensors(norm, d_model));
        }
        if let Some(PerLayerEmbed { width, .. }) = self.per_layer_embed {
            all.push((per_layer::GATE.into(), vec![width, d_model]));
            all.push((per_layer::OUT.into(), vec![d_model, width]));
            all.extend(self.norm_tensors(per_layer::POST_NORM, d_model));
        }
        if self.layer_scalars {
            all.push((per_layer::SCALAR.into(), vec![1]));
        }
        all
    }

    /// The tensors of one block's attention, named relative to the block.
    fn attention_tensors(&self, of: &Attention) -> Vec<(String, Vec<usize>)> {
        let n = &self.names;
        let (d_model, q, kv) = (self.d_model, self.n_heads * of.d_head, of.d_kv());
        // Each head's gate follows its query.
        let q_rows = if of.gate { 2 * q } else { q };
        let projections = match (n.qkv, of.kv) {
            (QkvNames::Fused(name) | QkvNames::FusedPerHead(name), _) => vec![(name, q_rows + 2 * kv)],
            (QkvNames::Split(q_name, ..), KeyValues::Of(_)) => vec![(q_name, q_rows)],
            (QkvNames::Split(q_name, k_name, _), KeyValues::KeysAsValues) => {
                vec![(q_name, q_rows), (k_name, kv)]
            }
            (QkvNames::Split(q_name, k_name, v_name), KeyValues::Own) => {
                vec![(q_name, q_rows), (k_name, kv), (v_name, kv)]
            }
        };
        let projections = projections
            .into_iter()
            .flat_map(|(name, out)| self.linear_tensors(name, out, d_model, self.qkv_bias));
        let mut all: Vec<_> = projections.collect();
        all.extend(self.linear_tensors(n.o, d_model, q, self.o_bias));
        let qk = match self.qk_norm {
            QkNorm::None => None,
            QkNorm::Head => Some((of.d_head, of.d_head)),
            QkNorm::Whole => Some((q, kv)),
        };
        if let Some((q, k)) = qk {
            all.extend(self.norm_tensors(n.qk_norm.0, q));
            if !matches!(of.kv, KeyValues::Of(_)) {
                all.extend(self.norm_tensors(n.qk_norm.1, k));
            }
        }
        all
    }

    /// The tensors of one block's gated delta net, named relative to the block.
    fn delta_tensors(&self, heads: DeltaHeads) -> Vec<(String, Vec<usize>)> {
        let DeltaHeads { n_v_heads, d_v, kernel, .. } = heads;
        let maps = [
            (delta_net::QKV, heads.channels()),
            (delta_net::GATE, heads.values()),
            (delta_net::DECAY, n_v_heads),
            (delta_net::RATE, n_v_heads),
        ];
        let maps =
            maps.into_iter().flat_map(|(name, out)| self.linear_tensors(name, out, self.d_model, false));
        let mut all: Vec<_> = maps.collect();
        all.push((delta_net::CONV.into(), vec![heads.channels(), 1, kernel]));
        all.push((delta_net::A_LOG.into(), vec![n_v_heads]));
        all.push((delta_net::DT_BIAS.into(), vec![n_v_heads]));
        all.push((delta_net::NORM.into(), vec![d_v]));
        all.extend(self.linear_tensors(delta_net::O, self.d_model, heads.values(), false));
        all
    }

    /// The tensors of a linear map in a block.
    fn linear_tensors(&self, name: &str, out: usize, inp: usize, bias: bool) -> Vec<(String, Vec<usize>)> {
        let shape = match self.names.layout {
            Layout::OutIn => vec![out, inp],
            Layout::InOut => vec![inp, out],
        };
        let bias = bias.then(|| (format!("{name}.bias"), vec![out]));
        [(format!("{name}.weight"), shape)].into_iter().chain(bias).collect()
    }

    /// The tensors of a norm of `width` entries.
    fn norm_tensors<N: Copy>(&self, name: &str, width: N) -> Vec<(String, Vec<N>)> {
        let parts: &[&str] = match self.norm {
            Norm::Rms { .. } => &["weight"],
            Norm::Layer => &["weight", "bias"],
        };
        parts.iter().map(|part| (format!("{name}.{part}"), vec![width])).collect()
    }

    /// The tensors of one block's experts, named relative to it.
    fn expert_tensors(&self, of: Experts, beside: bool) -> Vec<(String, Vec<usize>)> {
        let (n, d_model) = (&self.names.experts, self.d_model);
        let mut all = vec![(format!("{}.weight", n.router), vec![of.count, d_model])];
        match n.each {
            EachExpertNames::Stacked(gate_up, down) => {
                all.push((gate_up.into(), vec![of.count, 2 * of.d_mlp, d_model]));
                all.push((down.into(), vec![of.count, d_model, of.d_mlp]));
            }
            EachExpertNames::Split(gate, up, down) => {
                for expert in 0..of.count {
                    let name = |name: &str| format!("{}.weight", name.replace("{}", &expert.to_string()));
                    all.push((name(gate), vec![of.d_mlp, d_model]));
                    all.push((name(up), vec![of.d_mlp, d_model]));
                    all.push((name(down), vec![d_model, of.d_mlp]));
                }
            }
        }
        if let Some(n) = n.beside.filter(|_| beside) {
            let norms = [n.mlp_post_norm, n.norm, n.post_norm];
            all.extend(norms.into_iter().flat_map(|norm| self.norm_tensors(norm, d_model)));
            all.push((n.router_scale.into(), vec![d_model]));
            all.push((n.expert_scale.into(), vec![of.count]));
        }
        all
    }
}
