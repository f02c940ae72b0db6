//! Passes of the same texts under many vectors, each added at a layer: everything below that layer is the same for all
//! of them, and is computed once. Independent of what is read from the passes.

use std::collections::HashMap;

use anyhow::{Context, Result};
use tch::Tensor;

use super::Progress;
use crate::lm::{Batch, Hook, Kept, LanguageModel, Layer, Positions, Spans, Steer};
use crate::params::words;

/// Upper bound on the padded tokens of one pass. A constant: batching changes low-order bits, so batches may depend on
/// nothing but the input.
pub const BATCH_TOKENS: usize = 4096;

words! {
    /// Which of a text's tokens vectors are added at.
    pub enum At {
        /// All of them, also what the tokenizer puts before the text.
        All = "all",
        /// The text's own, without what the tokenizer puts before it: BOS.
        Content = "content",
        /// Those of the prompt, with what the tokenizer puts before it.
        Prompt = "prompt",
        /// Those that bring forth what follows the prompt: its last, and all after it.
        Generated = "generated",
        /// Those of the model's turn: the prompt's own and all after it, of a prompt that begins the model's answer.
        Assistant = "assistant",
    }
}

impl At {
    /// These positions in `texts` texts, each of which has `before` tokens before its own (for [`At::Assistant`]:
    /// before the model's turn), and `prompt` tokens in all to the end of its prompt.
    pub fn spans(self, texts: usize, before: usize, prompt: usize) -> Spans {
        let from = |token: usize| Spans::Each(vec![std::iter::once(token..usize::MAX).collect(); texts]);
        match self {
            At::All => Positions::All.into(),
            At::Content | At::Assistant => from(before),
            At::Prompt => Positions::Prompt.into(),
            // The continuation is predicted from the last token of the prompt on.
            At::Generated => from(prompt - 1),
        }
    }
}

/// Where vectors are added to texts.
#[derive(Clone)]
pub struct Sites {
    pub layers: Vec<Layer>,
    /// The positions for each text, if they differ between texts.
    pub spans: Spans,
    /// Bytes available for caching passes on these texts from one call to the next.
    pub room: u64,
}

/// A text under a vector: one row of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    pub vector: usize,
    pub text: usize,
}

/// Reads a batch: its rows, the batch, and its residual stream, `[batch, pos, d_model]`.
pub type Read<'a> = dyn FnMut(&[Row], &Batch, &Tensor) -> Result<()> + 'a;

/// Texts, and the cached parts of passes on them.
pub struct Shared {
    texts: Vec<Vec<i64>>,
    /// The number of prompt tokens of each text.
    prompts: Vec<usize>,
    sites: Sites,
    /// Texts that share one pass, short texts first.
    groups: Vec<Group>,
}

struct Group {
    texts: Vec<usize>,
    /// Parts cached from one call to the next.
    parts: Option<Vec<Part>>,
}

/// The cached part of one pass.
struct Part {
    /// The row of each text.
    rows: HashMap<usize, usize>,
    /// The cached state at each layer.
    kept: Vec<Kept>,
}

impl Shared {
    /// `prompts`: the number of prompt tokens of each text.
    pub fn new(texts: Vec<Vec<i64>>, prompts: Vec<usize>, sites: Sites) -> Shared {
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|&text| texts[text].len());
        let mut groups: Vec<Group> = Vec::new();
        for text in order {
            match groups.last_mut() {
                Some(group) if (group.texts.len() + 1) * texts[text].len() <= BATCH_TOKENS => {
                    group.texts.push(text);
                }
                _ => groups.push(Group { texts: vec![text], parts: None }),
            }
        }
        Shared { texts, prompts, sites, groups }
    }

    /// The tokens of each text.
    pub fn texts(&self) -> &[Vec<i64>] {
        &self.texts
    }

    /// Passes the text of each of `rows` through `model` with its vector (`[layer, d_model]`) added, a separate part
    /// at each of `layers`; with no layers nothing is added. Rows are batched, short texts first; `fits` gives the
    /// size of the next batch from the remaining rows. `read` receives the rows of each batch, the batch, and the
    /// residual stream at the last layer. `progress` receives the rows done and the total.
    ///
    /// # Errors
    /// A layer that is not among those of the sites; errors of `read`.
    pub fn pass(
        &mut self,
        model: &LanguageModel,
        (layers, rows, vectors): (&[Layer], &[Row], &[&[f32]]),
        fits: &dyn Fn(&[Row]) -> usize,
        progress: &mut Progress,
        read: &mut Read<'_>,
    ) -> Result<()> {
        // A pass without steering also caches the state from which all others continue.
        let highest = self.sites.layers.iter().copied().max().unwrap_or(Layer::Embed);
        let from = layers.iter().copied().min().unwrap_or(highest);
        let mut done = 0;
        for group in 0..self.groups.len() {
            let computed = self.keep(model, group, from)?;
            for part in computed.iter().chain(&self.groups[group].parts).flatten() {
                let kept = part.kept.iter().find(|kept| kept.layer() == from);
                let kept = kept.context("vectors are added at a layer that was not named")?;
                let mut left: Vec<Row> =
                    rows.iter().copied().filter(|row| part.rows.contains_key(&row.text)).collect();
                left.sort_by_key(|row| self.texts[row.text].len());
                let mut left = left.as_slice();
                while !left.is_empty() {
                    let (batch, rest) = left.split_at(fits(left).clamp(1, left.len()));
                    model.in_halves(batch, &mut |rows| {
                        let mut steer = steer(layers, &self.sites.spans, rows, vectors);
                        let mut hooks: Vec<&mut dyn Hook> =
                            steer.iter_mut().map(|steer| steer as &mut dyn Hook).collect();
                        let places: Vec<usize> = rows.iter().map(|row| part.rows[&row.text]).collect();
                        let (batch, resid) = model.forward_from(kept, &places, &mut hooks, None)?;
                        read(rows, &batch, &resid)
                    })?;
                    left = rest;
                    done += batch.len();
                    progress(done, rows.len());
                }
            }
        }
        Ok(())
    }

    /// Caches a group's pass at every layer if there is room for that; otherwise only at `layer`, for this call.
    fn keep(&mut self, model: &LanguageModel, group: usize, layer: Layer) -> Result<Option<Vec<Part>>> {
        let Group { texts, parts } = &self.groups[group];
        if parts.is_some() {
            return Ok(None);
        }
        let longest = texts.iter().map(|&text| self.texts[text].len()).max().unwrap_or(0);
        let layers: &[Layer] = if self.sites.layers.is_empty() { &[layer] } else { &self.sites.layers };
        let of_token: u64 = layers.iter().map(|&layer| model.kept_bytes_per_token(layer)).sum();
        let bytes = of_token.saturating_mul((texts.len() * longest) as u64);
        let has_room = bytes <= self.sites.room;
        let layers = if has_room { layers } else { &[layer] };
        let parts = model.in_halves(texts, &mut |texts| {
            let rows: Vec<&[i64]> = texts.iter().map(|&text| self.texts[text].as_slice()).collect();
            let prompts: Vec<usize> = texts.iter().map(|&text| self.prompts[text]).collect();
            let kept = model.keep(&Batch::with_prompts(&rows, &prompts)?, layers)?;
            Ok(Part { rows: texts.iter().copied().zip(0..).collect(), kept })
        })?;
        if !has_room {
            return Ok(Some(parts));
        }
        self.sites.room -= bytes;
        self.groups[group].parts = Some(parts);
        Ok(None)
    }
}

/// Steering at each layer, each row by its own vector.
fn steer(layers: &[Layer], spans: &Spans, rows: &[Row], vectors: &[&[f32]]) -> Vec<Steer> {
    let texts: Vec<usize> = rows.iter().map(|row| row.text).collect();
    let of_layer = |(at, &layer): (usize, &Layer)| {
        let here = |vector: usize| {
            let width = vectors[vector].len() / layers.len();
            vectors[vector][at * width..(at + 1) * width].iter().copied()
        };
        let vectors: Vec<f32> = rows.iter().flat_map(|row| here(row.vector)).collect();
        let vector = Tensor::from_slice(&vectors).view([rows.len() as i64, -1]);
        Steer { layer, vector, strength: 1.0, spans: spans.select(&texts) }
    };
    layers.iter().enumerate().map(of_layer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lm::{Checkpoint, Dtype};
    use tch::{Device, Kind};

    /// The mean of the residual stream after each row's last token, computed twice with `room` bytes of cache; and how
    /// much room remains.
    fn read(model: &LanguageModel, room: u64, layers: &[Layer], at: Option<Layer>) -> (Vec<Vec<f64>>, u64) {
        // About four thousand tokens, in two groups.
        let texts: Vec<Vec<i64>> = (0..100).map(|text| vec![1 + text % 40; 5 + text as usize % 50]).collect();
        let sites = Sites { layers: layers.to_vec(), spans: Positions::All.into(), room };
        let mut shared = Shared::new(texts.clone(), vec![1; texts.len()], sites);
        assert_eq!(shared.groups.len(), 2);
        let vectors: Vec<Vec<f32>> = (0..3).map(|v| vec![v as f32; model.spec.d_model]).collect();
        let vectors: Vec<&[f32]> = vectors.iter().map(Vec::as_slice).collect();
        let rows: Vec<Row> =
            (0..texts.len()).flat_map(|text| [2, 0].map(|vector| Row { vector, text })).collect();
        let mut found = Vec::new();
        for _ in 0..2 {
            let (mut seen, mut last) = (HashMap::new(), (0, 0));
            let fits = |rows: &[Row]| rows.len().min(7);
            let mut keep = |rows: &[Row], batch: &Batch, resid: &Tensor| {
                for (place, row) in (0..).zip(rows) {
                    assert_eq!(batch.lengths[place as usize], texts[row.text].len());
                    let token = resid.get(place).get(texts[row.text].len() as i64 - 1);
                    let mean = token.mean(Kind::Double).double_value(&[]);
                    assert_eq!(seen.insert((row.text, row.vector), mean), None, "once");
                }
                Ok(())
            };
            let asked = (at.as_slice(), rows.as_slice(), vectors.as_slice());
            shared.pass(model, asked, &fits, &mut |done, of| last = (done, of), &mut keep).unwrap();
            assert_eq!(last, (200, 200));
            found.push(rows.iter().map(|row| seen[&(row.text, row.vector)]).collect());
        }
        (found, shared.sites.room)
    }

    #[test]
    fn what_is_kept_changes_no_number() {
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama-gqa");
        let checkpoint = Checkpoint::open(&fixture).unwrap();
        let model = LanguageModel::load(&checkpoint, Dtype::F32, Device::Cpu).unwrap();
        let layers = [Layer::Block(1), Layer::Embed];
        for at in [None, Some(Layer::Block(1)), Some(Layer::Embed)] {
            let (nothing, _) = read(&model, 0, &layers, at);
            assert_eq!(nothing[0], nothing[1]);
            let of_token = 2 * model.kept_bytes_per_token(Layer::Embed);
            // Room for one of the two groups, and for both.
            for room in [2000 * of_token, 1 << 30] {
                let (some, left) = read(&model, room, &layers, at);
                assert_eq!(some, nothing);
                assert!(left < room);
            }
            assert_eq!(nothing[0][0] == nothing[0][1], at.is_none(), "vectors are added");
        }
    }

    #[test]
    fn a_layer_that_was_not_named_is_refused() {
        let fixture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/llama-gqa");
        let checkpoint = Checkpoint::open(&fixture).unwrap();
        let model = LanguageModel::load(&checkpoint, Dtype::F32, Device::Cpu).unwrap();
        let sites = Sites { layers: vec![Layer::Block(1)], spans: Positions::All.into(), room: 1 << 20 };
        let mut shared = Shared::new(vec![vec![1, 2]], vec![1], sites);
        let vector = vec![0.0; model.spec.d_model];
        let asked = (&[Layer::Block(0)][..], &[Row { vector: 0, text: 0 }][..], &[vector.as_slice()][..]);
        let error = shared.pass(&model, asked, &|_| 1, &mut |_, _| {}, &mut |_, _, _| Ok(())).unwrap_err();
        assert_eq!(error.to_string(), "vectors are added at a layer that was not named");
    }
}
