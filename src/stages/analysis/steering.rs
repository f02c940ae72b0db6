//! The effect of adding an emotion vector on the log-probability of every emotion's word, and on that of neutral text.

use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::coherence::Texts;
use super::made_of::given;
use super::shared;
use super::steering_bench::{Bench, Site};
use super::steering_nulls::{Nulls, at_once, names, read_under};
use super::steering_tables::{Coherence, Intervals, Rows, Written};
use super::words::{Prompt, Words};
use super::{
    Claim, Input, Inputs, Kind, LayerVectors, Tables, named, steering_dose, steering_figures,
    steering_text_figures,
};
use crate::params::{
    Form, Key, Node, Parts, Problem, Read, Reader, Span, Type, Value, params, presets, words,
};
use crate::report::figure::Figure;
use crate::stages::statistics::design::Weights;
use crate::store::table::Table;

pub use super::shared::At;
pub use crate::lm::Layer;

/// Must be increased when the same vectors would give different tables.
const VERSION: u32 = 6;

params! {
    /// What adding a vector does to the log-probability of every emotion's word after a prompt.
    #[check(somebody_answers)]
    pub struct Steering {
        /// The beginnings; each emotion's word is measured after each of them, with a space before it.
        #[with(named::prompts)]
        pub prompts: Vec<String> = ["He feels"];
        /// What the user says before, in the chat template: the prompts then begin the model's answer. Empty: they stand alone.
        pub ask: String = "";
        /// How strongly: one or several, not 0; below 0 in the opposite direction. Several give dose curves.
        #[of(Type::Numbers)]
        #[with(strength)]
        pub strength: Vec<f64> = [1.0];
        /// `vector`: adds strength * v; `resid_norm`: adds strength * (mean norm of the residuals of the stories' pooled tokens at that layer) * v/|v|.
        pub unit: Unit = "vector";
        /// Which of the kept layers are steered; `default`: the one nearest to 2/3 of the depth.
        pub layers: Layers = "default";
        /// Adds the vectors at all of `layers` at once, each with an equal part of the strength. Nothing is computed from activations
        /// then: no `shuffled`, `topics` and `resamples`.
        pub together: bool = false;
        /// Which tokens' residual streams the vector is added to: `all`, also the BOS that the tokenizer puts before the prompt;
        /// `content`: all but that; `prompt`, with it; `generated`: the last of the prompt and the word's own; `assistant`, with `ask`: the
        /// model's turn.
        pub positions: At = "all";
        /// Random directions of the same norm for each vector: a null. 19 is the smallest number for which p can reach .05.
        pub random: usize = 19, 0..=10_000;
        /// Directions with the vector's own coordinates in another order: a null that keeps how its entries are spread.
        pub permuted: usize = 19, 0..=10_000;
        /// Vectors of the same stories with their emotions shuffled within each topic, scaled to the same norm: a null that keeps
        /// what stories have in common.
        #[with(of_activations)]
        pub shuffled: usize = 19, 0..=10_000;
        /// Vectors of topics (of a template: of its passages), which are no emotion's, scaled to the same norm: a null that keeps all
        /// but the emotion. At most so many.
        #[with(of_activations)]
        pub topics: usize = 19, 0..=30;
        /// Resamples of the topics, each with recomputed vectors that steer their own words: the interval of each
        /// effect. 0: none. Each costs a row for each emotion, prompt and strength.
        #[with(of_activations)]
        pub resamples: usize = 100, 0..=10_000;
        /// Neutral texts whose log-probability is measured under the same steering, up to 64 tokens each: where it falls, the
        /// model is broken. `none`: not measured.
        #[of(Type::PresetOrTexts(presets::COHERENCE))]
        pub coherence: Vec<String> = "neutral-8";
        /// Tokens that are written after each prompt, always the likeliest, under each emotion's vector and a few null directions: whether
        /// text stays sensible. 0: none.
        pub write: usize = 0, 0..=1000;
    }
}

fn of_activations(reader: &Reader<'_>, name: &str) -> Read<usize> {
    let (n, together) = (reader.get(name)?, reader.get::<bool>("together")?);
    Ok(if together { 0 } else { n })
}

fn somebody_answers(reader: &Reader<'_>, parts: &Parts<Steering>) -> Read<()> {
    let (Ok(ask), Ok(At::Assistant)) = (&parts.ask, &parts.positions) else { return Ok(()) };
    if !ask.trim().is_empty() {
        return Ok(());
    }
    let problem = Problem::at(reader.span_of("positions"), "nobody answers: the prompts stand alone");
    reader.wrong(problem.hint("say with `ask` what the user says, or choose other `positions`"))
}

fn strength(reader: &Reader<'_>, name: &str) -> Read<Vec<f64>> {
    let check = |(strength, span): (f64, Span)| {
        if strength != 0.0 {
            return Ok(strength);
        }
        let problem = Problem::at(span, "steering by 0 changes nothing");
        reader.wrong(problem.hint("remove it; the log-probability without steering is measured in any case"))
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
        "How the probability of each emotion's word changes when a vector is added to the residual stream."
    }

    fn inputs(&self) -> Inputs {
        let drawn = self.random + self.permuted + self.shuffled + self.topics + self.resamples > 0;
        let activations = self.shuffled > 0 || self.topics > 0 || self.resamples > 0;
        Inputs { model: true, activations, seed: drawn, chat: !self.ask.is_empty(), ..Inputs::VECTORS }
    }

    fn layers(&self, kept: &[Layer], n_layers: usize) -> Vec<Layer> {
        self.layers.of(kept, n_layers)
    }

    fn run(&self, input: Input) -> Result<Tables> {
        run(self, input)
    }

    fn figures(&self, name: &str, tables: &[(String, Table)]) -> Result<Vec<Figure>> {
        let mut figures = steering_dose::figures(name, tables)?;
        figures.extend(steering_figures::figures(self, name, tables)?);
        figures.extend(steering_text_figures::figures(name, tables)?);
        Ok(figures)
    }

    fn claims(&self, tables: &[(String, Table)]) -> Result<Vec<Claim>> {
        let mut claims = steering_figures::claims(tables)?;
        claims.extend(steering_text_figures::claims(tables)?);
        Ok(claims)
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
    /// The subset of the kept layers that is steered.
    pub fn of(&self, kept: &[Layer], n_layers: usize) -> Vec<Layer> {
        match self {
            Layers::All => kept.to_vec(),
            Layers::List(list) => kept.iter().copied().filter(|layer| list.contains(layer)).collect(),
            Layers::Default => vec![nearest_two_thirds(kept, n_layers)],
        }
    }
}

/// The kept layer nearest to 2/3 of the depth: block `l` spans the depths from `l` to `l + 1`, so this is the one that
/// minimises `|l + 0.5 - 2/3 n_layers|`, on a tie the later one. For 42 and 16 layers that is 28 and 10, as in both
/// published replications. If no layer is kept, it is block `floor(2/3 n_layers)`; the embedding only if it is the
/// only layer kept.
pub fn nearest_two_thirds(kept: &[Layer], n_layers: usize) -> Layer {
    // Six times the distance, an integer.
    let distance =
        |layer: Layer| layer.block().map_or(usize::MAX, |block| (6 * block + 3).abs_diff(4 * n_layers));
    let nearest = kept.iter().copied().min_by_key(|layer| (distance(*layer), std::cmp::Reverse(*layer)));
    nearest.unwrap_or(Layer::Block(2 * n_layers / 3))
}

/// The table `steering`: for every steered layer, strength and prompt, the effect of each emotion's vector and of the
/// null directions on the log-probability, in nats, of every emotion's word.
///
/// The log-probability of a word is the sum over its tokens, as the tokenizer splits `" " + word` after the prompt.
/// Null directions are drawn from `seed`, layer and index; for an emotion's word each is scaled to the norm of what
/// was added for that emotion. Positions: [`At`]; nothing is generated, so `generated` means the positions from which
/// the word's tokens are predicted.
///
/// `steering_interval`: the interval of the effect on each own word (mean over prompts) when the vectors are
/// recomputed from resampled topics: the middle 95 %, shifted so that the mean of the resamples is the effect itself,
/// because vectors of fewer topics are noisier and change a word less. Requires at least two topics.
/// `steering_coherence`: the mean log-probability per token of the neutral texts with a vector added at every position
/// (`content`: at their own tokens). `steering_text`: the texts generated under the same additions, and without any.
///
/// An error if a vector is zero and only its direction is used, if the model is not the one that the vectors were read
/// from, or if a log-probability is not finite.
fn run(params: &Steering, input: Input) -> Result<Tables> {
    let model = input.model()?;
    let Input { set, seed, progress, activations, chat, .. } = input;
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
    let ask = (!params.ask.is_empty()).then_some((params.ask.as_str(), chat));
    let words = params
        .prompts
        .iter()
        .map(|text| Words::new(model, Prompt { text, ask }, &first.emotions, params.positions, sites));
    let words = words.collect::<Result<Vec<_>>>()?;
    let texts = Texts::new(model, &params.coherence, params.positions, sites)?;
    // A single layer at a time if activations are read.
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
    let places: Vec<Vec<&LayerVectors>> = match params.together {
        true => vec![layers.clone()],
        false => layers.iter().map(|layer| vec![*layer]).collect(),
    };
    let rounds = places.len() * params.strength.len();
    let each = words.iter().map(|w| w.rows() + rounds * n * (w.rows() + nulls + resamples.len()));
    let texts_written = if params.write > 0 { words.len() * (places.len() + rounds * read) } else { 0 };
    let total = each.sum::<usize>() + texts.rows() * (1 + rounds * read) + texts_written;
    let mut bench =
        Bench { params, set, model, words, texts, before: Vec::new(), calm: 0.0, done: 0, total, progress };
    bench.unsteered(n)?;
    let (mut rows, mut intervals, mut coherence, mut written) =
        (Rows::default(), Intervals::default(), Coherence::default(), Written::default());
    for layers in places {
        let nulls = layers.iter().map(|layer| Nulls::draw(params, layer, remade.as_ref(), seed));
        let nulls = nulls.collect::<Result<Vec<_>>>()?;
        let at: Vec<Layer> = layers.iter().map(|layer| layer.layer).collect();
        let site = Site { shown: nearest_two_thirds(&at, set.n_layers), at, layers };
        bench.write_unsteered(&site, &mut written)?;
        for &strength in &params.strength {
            let mut work = |bench: &mut Bench| {
                let additions = at_once(params.unit, strength, &site.layers, &nulls)?;
                let own = bench.words(&site, strength, &names, &additions, &mut rows)?;
                if let (Some(remade), [layer]) = (&remade, &site.layers[..]) {
                    bench.intervals((layer, strength), &own, remade, &resamples, &mut intervals)?;
                }
                bench.coherence(&site, strength, &names, &additions, &mut coherence)?;
                bench.write((&site, strength), &names, &additions, &mut written)
            };
            work(&mut bench)
                .with_context(|| format!("steering at layer {} with strength {strength}", site.name()))?;
        }
    }
    let mut tables = vec![("steering".to_string(), rows.finish(params.unit))];
    if !resamples.is_empty() {
        tables.push(("steering_interval".into(), intervals.finish(params.unit)));
    }
    if !params.coherence.is_empty() {
        tables.push(("steering_coherence".into(), coherence.finish(params.unit)));
    }
    if params.write > 0 {
        tables.push(("steering_text".into(), written.finish(params.unit)));
    }
    Ok(tables)
}

#[cfg(test)]
impl Steering {
    /// The plain vectors, without nulls or intervals.
    pub fn plain() -> Steering {
        Steering {
            prompts: vec!["He feels".into()],
            ask: String::new(),
            together: false,
            write: 0,
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
        // The embedding only if nothing else is kept.
        let kept = [Layer::Embed, Layer::Block(0)];
        assert_eq!(Layers::Default.of(&kept, 9), [Layer::Block(0)]);
        assert_eq!(Layers::Default.of(&kept[..1], 9), [Layer::Embed]);
    }
}
