//! What adding an emotion vector does to the log-probability of every emotion's word, and to that of neutral text.

use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::coherence::Texts;
use super::estimates::around;
use super::made_of::{Remade, given};
use super::shared;
use super::steering_nulls::{Nulls, additions, names, read_under, scaled, scales};
use super::steering_tables::{Coherence, Intervals, Rows};
use super::words::{Addition, Words};
use super::{
    Claim, Input, Inputs, Kind, LayerVectors, Progress, Tables, VectorSet, named, steering_dose,
    steering_figures,
};
use crate::lm::LanguageModel;
use crate::params::{Form, Key, Node, Problem, Read, Reader, Span, Type, Value, params, presets, words};
use crate::report::figure::Figure;
use crate::stages::statistics::design::Weights;
use crate::store::table::Table;

pub use super::shared::At;
pub use crate::lm::Layer;

/// Raised when the same vectors would give other tables.
const VERSION: u32 = 6;

params! {
    /// What adding a vector does to the log-probability of every emotion's word after a prompt.
    pub struct Steering {
        /// The beginnings; each emotion's word is measured after each of them, with a space before it.
        #[with(named::prompts)]
        pub prompts: Vec<String> = ["He feels"];
        /// How strongly: one or several, not 0; below 0 in the opposite direction. Several give dose curves.
        #[of(Type::Numbers)]
        #[with(strength)]
        pub strength: Vec<f64> = [1.0];
        /// `vector`: adds strength * v; `resid_norm`: adds strength * (mean norm of the residuals of the stories' pooled tokens at that layer) * v/|v|.
        pub unit: Unit = "vector";
        /// Which of the kept layers are steered; `default`: the one nearest to 2/3 of the depth.
        pub layers: Layers = "default";
        /// Which tokens' residual streams the vector is added to: `all`, also the BOS that the tokenizer puts before the prompt;
        /// `content`: all but that; `prompt`, with it; `generated`: the last of the prompt and the word's own.
        pub positions: At = "all";
        /// Random directions of the same norm beside each vector: a null. 19 is the least number of which p can be .05.
        pub random: usize = 19, 0..=10_000;
        /// Directions with the vector's own coordinates in another order: a null that keeps how its entries are spread.
        pub permuted: usize = 19, 0..=10_000;
        /// Vectors of the same stories with their emotions shuffled within each topic, scaled to the same norm: a null that keeps
        /// what stories have in common.
        pub shuffled: usize = 19, 0..=10_000;
        /// Vectors of topics (of a template: of its passages), which are no emotion's, scaled to the same norm: a null that keeps all
        /// but the emotion. At most so many.
        pub topics: usize = 19, 0..=30;
        /// Resamples of the topics, each with vectors of its own that steer their own words: the interval of each effect. 0: none.
        /// Each takes a row for each emotion, prompt and strength.
        pub resamples: usize = 100, 0..=10_000;
        /// Neutral texts whose log-probability is measured under the same steering, up to 64 tokens each: where it falls, the
        /// model is broken. `none`: not measured.
        #[of(Type::PresetOrTexts(presets::COHERENCE))]
        pub coherence: Vec<String> = "neutral-8";
    }
}

fn strength(reader: &Reader<'_>, name: &str) -> Read<Vec<f64>> {
    let check = |(strength, span): (f64, Span)| {
        if strength != 0.0 {
            return Ok(strength);
        }
        let problem = Problem::at(span, "steering by 0 changes nothing");
        reader
            .wrong(problem.hint("take it out; the log-probability without steering is measured in any case"))
    };
    let strengths: Vec<Read<f64>> = reader.numbers(name)?.into_iter().map(check).collect();
    strengths.into_iter().collect()
}

impl Kind for Steering {
    fn kind(&self) -> &'static str {
        "steering"
    }

    fn version(&self) -> u32 {
        VERSION
    }

    fn title(&self) -> &'static str {
        "Steering"
    }

    fn intro(&self) -> &'static str {
        "What happens to the probability of each emotion's word when a vector is added to the residual stream."
    }

    fn inputs(&self) -> Inputs {
        let drawn = self.random + self.permuted + self.shuffled + self.topics + self.resamples > 0;
        let activations = self.shuffled > 0 || self.topics > 0 || self.resamples > 0;
        Inputs { model: true, activations, seed: drawn, ..Inputs::VECTORS }
    }

    fn layers(&self, kept: &[Layer], n_layers: usize) -> Vec<Layer> {
        self.layers.of(kept, n_layers)
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        let mut figures = steering_dose::figures(name, tables)?;
        figures.extend(steering_figures::figures(self.topics > 0, name, tables)?);
        Ok(figures)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        steering_figures::claims(tables)
    }

    fn reading(&self) -> &'static str {
        steering_figures::READING
    }
}

words! {
    /// What a strength of 1 means.
    pub enum Unit {
        /// The vector as it is.
        Vector = "vector",
        /// The mean norm of tokens' residuals at that layer, in the vector's direction.
        ResidNorm = "resid_norm",
    }
}

/// Which of the kept layers are steered.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Layers {
    /// The kept layer nearest to 2/3 of the depth.
    Default,
    All,
    List(Vec<Layer>),
}

impl Value for Layers {
    const OF: Type = Type::Forms { words: &["default", "all"], layers: true, table: None };

    fn parse(reader: &Reader<'_>, key: &Key, node: &Rc<Node>) -> Read<Layers> {
        let list = match reader.form(key, node)? {
            Form::Layers(list) => list,
            Form::Word("all") => return Ok(Layers::All),
            _ => return Ok(Layers::Default),
        };
        if let Some(kept) = reader.scope.kept.get()
            && let Some(layer) = list.iter().find(|layer| !kept.contains(layer))
        {
            let problem = Problem::at(node.span.clone(), format!("layer {layer} is steered but not kept"));
            let kept: Vec<_> = kept.iter().map(Layer::to_string).collect();
            return reader.wrong(problem.hint(format!("kept layers: {}", kept.join(", "))));
        }
        Ok(Layers::List(list))
    }
}

impl Layers {
    /// The kept layers that are steered.
    pub fn of(&self, kept: &[Layer], n_layers: usize) -> Vec<Layer> {
        match self {
            Layers::All => kept.to_vec(),
            Layers::List(list) => kept.iter().copied().filter(|layer| list.contains(layer)).collect(),
            Layers::Default => vec![nearest_two_thirds(kept, n_layers)],
        }
    }
}

/// The kept layer nearest to 2/3 of the depth: block `l` spans the depths from `l` to `l + 1`, so the one that
/// minimises `|l + 0.5 - 2/3 n_layers|`; of two, the later. 28 of 42 and 10 of 16, as in both published replications.
/// Of no layer at all, it is block `floor(2/3 n_layers)`; the embedding only where nothing else is kept.
pub fn nearest_two_thirds(kept: &[Layer], n_layers: usize) -> Layer {
    // Six times the distance, in whole numbers.
    let distance =
        |layer: Layer| layer.block().map_or(usize::MAX, |block| (6 * block + 3).abs_diff(4 * n_layers));
    let nearest = kept.iter().copied().min_by_key(|layer| (distance(*layer), std::cmp::Reverse(*layer)));
    nearest.unwrap_or(Layer::Block(2 * n_layers / 3))
}

/// The table `steering`: for every steered layer, strength and prompt what each emotion's vector does to the
/// log-probability, in nats, of every emotion's word, and what the null directions do to it.
///
/// A word's log-probability is the sum over its tokens, as the tokenizer splits `" " + word` after the prompt. Null
/// directions are drawn from `seed`, layer and number; beside the word of an emotion each has the norm of what was added
/// for that emotion. Positions: [`At`]; nothing is generated,
/// so `generated` are those from which the word's tokens are predicted.
///
/// `steering_interval`: in what range the effect on each own word lies (mean over prompts) when the vectors are made of
/// resampled topics: the middle 95 %, shifted so that their mean is the effect itself, as vectors of
/// fewer topics are noisier and move a word less. Only where there are two topics or more. `steering_coherence`: the mean
/// log-probability of a token of the neutral texts with a vector added at every position (`content`: at their own).
///
/// An error if a vector is zero where its direction alone is wanted, if the model is not the vectors' own, or if a
/// log-probability is not finite.
fn run(params: &Steering, input: Input) -> Result<Tables> {
    let model = input.model()?;
    let Input { set, seed, progress, activations, .. } = input;
    let kept: Vec<Layer> = set.layers.iter().map(|l| l.layer).collect();
    let wanted = params.layers.of(&kept, set.n_layers);
    let layers: Vec<&LayerVectors> = set.layers.iter().filter(|l| wanted.contains(&l.layer)).collect();
    let Some(first) = layers.first() else {
        bail!("none of the layers to steer is among the kept ones {kept:?}")
    };
    for layer in &layers {
        ensure!(
            layer.d_model == model.spec.d_model,
            "vectors of {} entries for another model",
            layer.d_model
        );
        ensure!(layer.emotions == first.emotions, "the layers have vectors of different emotions");
    }
    let at: Vec<Layer> = layers.iter().map(|layer| layer.layer).collect();
    let sites = (&at[..], model.bytes_to_keep(shared::BATCH_TOKENS) / (params.prompts.len() as u64 + 1));
    let words = params.prompts.iter();
    let words = words.map(|prompt| Words::new(model, prompt, &first.emotions, params.positions, sites));
    let words = words.collect::<Result<Vec<_>>>()?;
    let texts = Texts::new(model, &params.coherence, params.positions, sites)?;
    // One layer at a time where activations are read.
    let remade = match params.resamples + params.shuffled + params.topics {
        0 => None,
        _ => Some(given(activations.as_ref())?.remade(&first.emotions, first.layer.number(), seed)?),
    };
    let design = remade.as_ref().map(|remade| &remade.design);
    let asked = design.map_or(0, |design| design.resamples(params.resamples));
    let resamples: Vec<Weights> = (0..asked).map_while(|number| design?.drawn(number).ok()).collect();
    let n = first.emotions.len();
    let topics = design.map_or(0, |design| design.topics(params.topics).len());
    let nulls = params.random + params.permuted + params.shuffled + topics;
    let names = names(params, topics, &first.emotions);
    let read = read_under(&names, n).len();
    let rounds = layers.len() * params.strength.len();
    let each = words.iter().map(|w| w.rows() + rounds * n * (w.rows() + nulls + resamples.len()));
    let total = each.sum::<usize>() + texts.rows() * (1 + rounds * read);
    let mut bench =
        Bench { params, set, model, words, texts, before: Vec::new(), calm: 0.0, done: 0, total, progress };
    bench.unsteered(n)?;
    let (mut rows, mut intervals, mut coherence) =
        (Rows::default(), Intervals::default(), Coherence::default());
    for layer in &layers {
        let nulls = Nulls::draw(params, layer, remade.as_ref(), seed)?;
        for &strength in &params.strength {
            let mut work = |bench: &mut Bench| {
                let scales = scales(params.unit, strength, layer)?;
                let additions = additions(layer, &scales, &nulls)?;
                let own = bench.words(layer, strength, &names, &additions, &mut rows)?;
                if let Some(remade) = &remade {
                    bench.intervals((layer, strength), &own, remade, &resamples, &mut intervals)?;
                }
                bench.coherence(layer, strength, &names, &additions, &mut coherence)
            };
            work(&mut bench)
                .with_context(|| format!("steering at layer {} with strength {strength}", layer.layer))?;
        }
    }
    let mut tables = vec![("steering".to_string(), rows.finish(params.unit))];
    if !resamples.is_empty() {
        tables.push(("steering_interval".into(), intervals.finish(params.unit)));
    }
    if !params.coherence.is_empty() {
        tables.push(("steering_coherence".into(), coherence.finish(params.unit)));
    }
    Ok(tables)
}

/// Vectors of resamples that are held at a time: many short texts make a batch.
const RESAMPLED: usize = 1024;

/// What is measured on, and how far it is.
struct Bench<'a> {
    params: &'a Steering,
    set: &'a VectorSet,
    model: &'a LanguageModel,
    /// Of each prompt.
    words: Vec<Words>,
    texts: Texts,
    /// Of each prompt the log-probability of each word without steering.
    before: Vec<Vec<f64>>,
    /// That of a token of neutral text.
    calm: f64,
    /// Rows of `total`.
    done: usize,
    total: usize,
    progress: &'a mut Progress<'a>,
}

impl Bench<'_> {
    /// Measures without steering.
    fn unsteered(&mut self, n: usize) -> Result<()> {
        for prompt in 0..self.words.len() {
            let nothing = Addition { vector: Vec::new(), words: (0..n).collect() };
            let found = self.measure(prompt, None, &[nothing])?.remove(0);
            self.before.push(found);
        }
        if self.texts.rows() > 0 {
            self.calm = self.read(None, &[&[]])?[0];
        }
        Ok(())
    }

    /// The log-probabilities of the words of each addition after a prompt.
    fn measure(
        &mut self,
        prompt: usize,
        layer: Option<Layer>,
        additions: &[Addition],
    ) -> Result<Vec<Vec<f64>>> {
        let (before, total, mut rows) = (self.done, self.total, 0);
        let found = self.words[prompt].log_probabilities(self.model, layer, additions, &mut |done, of| {
            rows = of;
            (self.progress)(before + done, total);
        });
        self.done += rows;
        found
    }

    /// The log-probability of a token of neutral text under each vector.
    fn read(&mut self, layer: Option<Layer>, vectors: &[&[f32]]) -> Result<Vec<f64>> {
        let (before, total, mut rows) = (self.done, self.total, 0);
        let found = self.texts.log_probabilities(self.model, layer, vectors, &mut |done, of| {
            rows = of;
            (self.progress)(before + done, total);
        });
        self.done += rows;
        found
    }

    /// The effect of each emotion's vector on its own word, mean over prompts.
    fn words(
        &mut self,
        layer: &LayerVectors,
        strength: f64,
        names: &[String],
        additions: &[Addition],
        rows: &mut Rows,
    ) -> Result<Vec<f64>> {
        let prompts = self.words.len();
        let mut own = vec![0.0; layer.emotions.len()];
        for prompt in 0..prompts {
            let found = self.measure(prompt, Some(layer.layer), additions)?;
            for (word, own) in own.iter_mut().enumerate() {
                *own += (found[word][word] - self.before[prompt][word]) / prompts as f64;
            }
            for ((name, addition), values) in names.iter().zip(additions).zip(found) {
                for (&word, value) in addition.words.iter().zip(values) {
                    rows.places.push(self.set, layer.layer);
                    rows.prompt.push(self.params.prompts[prompt].clone());
                    rows.strength.push(strength);
                    rows.steered.push(name.clone());
                    rows.measured.push(layer.emotions[word].clone());
                    rows.baseline.push(self.before[prompt][word]);
                    rows.after.push(value);
                }
            }
        }
        Ok(own)
    }

    /// `own`: the effects on the own words; `resamples`: how often each topic counts.
    fn intervals(
        &mut self,
        (layer, strength): (&LayerVectors, f64),
        own: &[f64],
        remade: &Remade,
        resamples: &[Weights],
        intervals: &mut Intervals,
    ) -> Result<()> {
        let (n, prompts) = (layer.emotions.len(), self.words.len());
        // The mean over prompts, of each emotion in each resample.
        let mut deltas = vec![Vec::with_capacity(resamples.len()); n];
        for resamples in resamples.chunks((RESAMPLED / n).max(1)) {
            let mut additions = Vec::with_capacity(resamples.len() * n);
            for weights in resamples {
                let drawn = LayerVectors { vectors: remade.weighted(weights)?, ..layer.clone() };
                let scales = scales(self.params.unit, strength, &drawn)?;
                let own =
                    |word| Addition { vector: scaled(drawn.vector(word), scales[word]), words: vec![word] };
                additions.extend((0..n).map(own));
            }
            let mut sums = vec![0.0; additions.len()];
            for prompt in 0..prompts {
                let found = self.measure(prompt, Some(layer.layer), &additions)?;
                for ((sum, after), addition) in sums.iter_mut().zip(found).zip(&additions) {
                    *sum += after[0] - self.before[prompt][addition.words[0]];
                }
            }
            for (addition, sum) in additions.iter().zip(sums) {
                deltas[addition.words[0]].push(sum / prompts as f64);
            }
        }
        for ((emotion, deltas), &own) in layer.emotions.iter().zip(&deltas).zip(own) {
            let Some((low, high)) = around(own, deltas) else { continue };
            intervals.places.push(self.set, layer.layer);
            intervals.strength.push(strength);
            intervals.emotion.push(emotion.clone());
            intervals.topics.push(remade.design.groups() as i32);
            intervals.resamples.push(deltas.len() as i32);
            intervals.low.push(low);
            intervals.high.push(high);
        }
        Ok(())
    }

    fn coherence(
        &mut self,
        layer: &LayerVectors,
        strength: f64,
        names: &[String],
        additions: &[Addition],
        coherence: &mut Coherence,
    ) -> Result<()> {
        if self.texts.rows() == 0 {
            return Ok(());
        }
        let under = read_under(names, layer.emotions.len());
        let vectors: Vec<&[f32]> = under.iter().map(|&at| additions[at].vector.as_slice()).collect();
        for (&at, value) in under.iter().zip(self.read(Some(layer.layer), &vectors)?) {
            coherence.places.push(self.set, layer.layer);
            coherence.strength.push(strength);
            coherence.steered.push(names[at].clone());
            coherence.n_tokens.push(self.texts.tokens() as i32);
            coherence.baseline.push(self.calm);
            coherence.after.push(value);
        }
        Ok(())
    }
}

#[cfg(test)]
impl Steering {
    /// Without anything beside the vectors.
    pub fn plain() -> Steering {
        Steering {
            prompts: vec!["He feels".into()],
            strength: vec![1.0],
            unit: Unit::Vector,
            layers: Layers::Default,
            positions: At::All,
            random: 0,
            permuted: 0,
            shuffled: 0,
            topics: 0,
            resamples: 0,
            coherence: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_layer_is_the_kept_one_nearest_to_two_thirds() {
        let of = |layers: &Layers, kept: &[usize], n_layers: usize| -> Vec<i32> {
            let kept: Vec<Layer> = kept.iter().copied().map(Layer::Block).collect();
            layers.of(&kept, n_layers).into_iter().map(Layer::number).collect()
        };
        let all = |n: usize| (0..n).collect::<Vec<_>>();
        assert_eq!(of(&Layers::Default, &all(16), 16), [10]);
        assert_eq!(of(&Layers::Default, &all(42), 42), [28]);
        assert_eq!(of(&Layers::Default, &[0, 8, 12], 16), [12]); // 12.5 and 8.5 against 10.67
        assert_eq!(of(&Layers::Default, &[3], 16), [3]);
        assert_eq!(of(&Layers::All, &[2, 5], 6), [2, 5]);
        let list = Layers::List(vec![Layer::Block(5), Layer::Block(4)]);
        assert_eq!(of(&list, &[2, 4, 5], 6), [4, 5]);
        // The embedding only where nothing else is kept.
        let kept = [Layer::Embed, Layer::Block(0)];
        assert_eq!(Layers::Default.of(&kept, 9), [Layer::Block(0)]);
        assert_eq!(Layers::Default.of(&kept[..1], 9), [Layer::Embed]);
    }
}
