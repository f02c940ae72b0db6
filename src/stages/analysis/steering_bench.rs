//! The measurements of steering: words after prompts, and neutral text, under each addition.

use anyhow::Result;

use super::coherence::Texts;
use super::estimates::around;
use super::made_of::Remade;
use super::steering::Steering;
use super::steering_nulls::{read_under, scaled, scales};
use super::steering_tables::{Coherence, Intervals, Rows, Written};
use super::words::{Addition, Words};
use super::{LayerVectors, Progress, VectorSet, steering_written};
use crate::lm::{LanguageModel, Layer};
use crate::stages::statistics::design::Weights;

/// The value of the column `steered` for texts generated without steering.
pub const UNSTEERED: &str = "unsteered";

/// The layers at which vectors are added simultaneously.
pub struct Site<'a> {
    pub layers: Vec<&'a LayerVectors>,
    pub at: Vec<Layer>,
    /// The layer reported in tables: if there are several, the one nearest to two thirds of the depth.
    pub shown: Layer,
}

impl Site<'_> {
    pub fn emotions(&self) -> &[String] {
        &self.layers[0].emotions
    }

    /// `20`, or `19 + 20` for two simultaneous layers.
    pub fn name(&self) -> String {
        self.at.iter().map(Layer::to_string).collect::<Vec<_>>().join(" + ")
    }
}

/// Vectors of resamples held at a time: many short texts make up a batch.
const RESAMPLED: usize = 1024;

/// The material of the measurements, and their progress.
pub struct Bench<'a> {
    pub params: &'a Steering,
    pub set: &'a VectorSet,
    pub model: &'a LanguageModel,
    /// One entry per prompt.
    pub words: Vec<Words>,
    pub texts: Texts,
    /// For each prompt, the log-probability of each word without steering.
    pub before: Vec<Vec<f64>>,
    /// The mean log-probability per token of neutral text without steering.
    pub calm: f64,
    /// Rows done, out of `total`.
    pub done: usize,
    pub total: usize,
    pub progress: &'a mut Progress<'a>,
}

impl Bench<'_> {
    /// Measures without steering.
    pub fn unsteered(&mut self, n: usize) -> Result<()> {
        for prompt in 0..self.words.len() {
            let nothing = Addition { vector: Vec::new(), words: (0..n).collect() };
            let found = self.measure(prompt, &[], &[nothing])?.remove(0);
            self.before.push(found);
        }
        if self.texts.rows() > 0 {
            self.calm = self.read(&[], &[&[]])?[0];
        }
        Ok(())
    }

    /// The log-probabilities of the words of each addition after a prompt.
    fn measure(&mut self, prompt: usize, layers: &[Layer], additions: &[Addition]) -> Result<Vec<Vec<f64>>> {
        let (before, total, mut rows) = (self.done, self.total, 0);
        let found = self.words[prompt].log_probabilities(self.model, layers, additions, &mut |done, of| {
            rows = of;
            (self.progress)(before + done, total);
        });
        self.done += rows;
        found
    }

    /// The mean log-probability per token of neutral text under each vector.
    fn read(&mut self, layers: &[Layer], vectors: &[&[f32]]) -> Result<Vec<f64>> {
        let (before, total, mut rows) = (self.done, self.total, 0);
        let found = self.texts.log_probabilities(self.model, layers, vectors, &mut |done, of| {
            rows = of;
            (self.progress)(before + done, total);
        });
        self.done += rows;
        found
    }

    /// The effect of each emotion's vector on its own word, averaged over prompts.
    pub fn words(
        &mut self,
        site: &Site,
        strength: f64,
        names: &[String],
        additions: &[Addition],
        rows: &mut Rows,
    ) -> Result<Vec<f64>> {
        let prompts = self.words.len();
        let mut own = vec![0.0; site.emotions().len()];
        for prompt in 0..prompts {
            let found = self.measure(prompt, &site.at, additions)?;
            for (word, own) in own.iter_mut().enumerate() {
                *own += (found[word][word] - self.before[prompt][word]) / prompts as f64;
            }
            for ((name, addition), values) in names.iter().zip(additions).zip(found) {
                for (&word, value) in addition.words.iter().zip(values) {
                    rows.places.push(self.set, site.shown);
                    rows.layers.push(site.name());
                    rows.prompt.push(self.params.prompts[prompt].clone());
                    rows.strength.push(strength);
                    rows.steered.push(name.clone());
                    rows.measured.push(site.emotions()[word].clone());
                    rows.baseline.push(self.before[prompt][word]);
                    rows.after.push(value);
                }
            }
        }
        Ok(own)
    }

    /// `own`: the effects on the own words; `resamples`: the weight of each topic in each resample.
    pub fn intervals(
        &mut self,
        (layer, strength): (&LayerVectors, f64),
        own: &[f64],
        remade: &Remade,
        resamples: &[Weights],
        intervals: &mut Intervals,
    ) -> Result<()> {
        let (n, prompts) = (layer.emotions.len(), self.words.len());
        // The mean over prompts for each emotion in each resample.
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
                let found = self.measure(prompt, &[layer.layer], &additions)?;
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

    /// Generates text after each prompt without steering.
    pub fn write_unsteered(&mut self, site: &Site, written: &mut Written) -> Result<()> {
        self.written((site, 0.0), &[UNSTEERED.to_string()], (&[], &[&[]]), written)
    }

    /// Generates text after each prompt, under the same additions as neutral text is read under.
    pub fn write(
        &mut self,
        (site, strength): (&Site, f64),
        names: &[String],
        additions: &[Addition],
        written: &mut Written,
    ) -> Result<()> {
        let under = read_under(names, site.emotions().len());
        let vectors: Vec<&[f32]> = under.iter().map(|&at| additions[at].vector.as_slice()).collect();
        let names: Vec<String> = under.iter().map(|&at| names[at].clone()).collect();
        self.written((site, strength), &names, (&site.at, &vectors), written)
    }

    fn written(
        &mut self,
        (site, strength): (&Site, f64),
        names: &[String],
        added: (&[Layer], &[&[f32]]),
        written: &mut Written,
    ) -> Result<()> {
        if self.params.write == 0 {
            return Ok(());
        }
        for (words, prompt) in self.words.iter().zip(&self.params.prompts) {
            let texts = steering_written::write(self.model, words, self.params.write, added)?;
            for (name, text) in names.iter().zip(texts) {
                written.places.push(self.set, site.shown);
                written.prompt.push(prompt.clone());
                written.strength.push(strength);
                written.steered.push(name.clone());
                written.n_tokens.push(text.tokens as i32);
                written.surprise.push(text.surprise);
                written.repeated.push(text.repeated);
                written.text.push(text.text);
                self.done += 1;
            }
            (self.progress)(self.done, self.total);
        }
        Ok(())
    }

    pub fn coherence(
        &mut self,
        site: &Site,
        strength: f64,
        names: &[String],
        additions: &[Addition],
        coherence: &mut Coherence,
    ) -> Result<()> {
        if self.texts.rows() == 0 {
            return Ok(());
        }
        let under = read_under(names, site.emotions().len());
        let vectors: Vec<&[f32]> = under.iter().map(|&at| additions[at].vector.as_slice()).collect();
        for (&at, value) in under.iter().zip(self.read(&site.at, &vectors)?) {
            coherence.places.push(self.set, site.shown);
            coherence.strength.push(strength);
            coherence.steered.push(names[at].clone());
            coherence.n_tokens.push(self.texts.tokens() as i32);
            coherence.baseline.push(self.calm);
            coherence.after.push(value);
        }
        Ok(())
    }
}
