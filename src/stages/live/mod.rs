//! Texts that a model continues or reads while vectors are added, reported token by token. Independent of the caller.

mod beside;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Range;

use anyhow::{Context, Result, ensure};
use tch::{Kind, Tensor};

pub use beside::{as_in_rollouts, as_in_steering, direction};

use super::analysis::steering::At;
use crate::lm::device::{fetch, send};
use crate::lm::{Batch, Hook, LanguageModel, Layer, Sampling, Spans, Steer, Step, Trace, Traced};

/// Bound on logits held at a time: 128 MiB in fp32.
const LOGITS: usize = 1 << 25;

/// A vector that is added at some of a text's tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Added {
    pub layer: Layer,
    /// `[d_model]`, with its final norm.
    pub vector: Vec<f32>,
    /// Token ranges, counted from the text's first token; the last range may be open-ended.
    pub spans: Vec<Range<usize>>,
}

/// A text, and the vectors added while it is read and continued.
#[derive(Clone, Debug)]
pub struct Text {
    pub ids: Vec<i64>,
    pub seed: u64,
    pub added: Vec<Added>,
}

/// A direction along which every token is read, at a layer, before any vector is added there.
#[derive(Clone, Debug)]
pub struct Along {
    pub layer: Layer,
    /// `[d_model]`
    pub direction: Vec<f32>,
}

/// A token that was sampled or read.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// The index of its text.
    pub text: usize,
    pub id: i64,
    /// It ends the text and is not part of it.
    pub ends: bool,
    /// Whether no token follows it.
    pub is_last: bool,
    /// In nats, under the steered model at temperature 1; `None` unless requested.
    pub logprob: Option<f64>,
    /// The most likely tokens at its position, as many as requested.
    pub likeliest: Vec<(i64, f64)>,
}

/// What is new since the last report.
#[derive(Debug)]
pub struct Told {
    pub tokens: Vec<Token>,
    pub traced: Vec<Traced>,
}

/// The token ranges at which `at` adds, for a text of `prompt` tokens whose own tokens begin after the first `before`.
pub fn spans(at: At, before: usize, prompt: usize) -> Vec<Range<usize>> {
    match at.spans(1, before, prompt) {
        Spans::At(crate::lm::Positions::Prompt) => vec![0..prompt],
        Spans::At(_) => vec![0..usize::MAX],
        Spans::Each(mut spans) => spans.pop().unwrap_or_default(),
    }
}

/// Continues `texts` in parallel. With `top`, log-probabilities are reported with that many of the most likely tokens;
/// `told` returns the texts that are to stop with what they have. With `along`, every token's product is reported,
/// including that of the last one.
///
/// # Errors
/// Those of [`LanguageModel::generate_stepwise`] and of `told`.
pub fn write(
    model: &LanguageModel,
    texts: &[Text],
    sampling: &Sampling,
    (along, top): (Option<&Along>, Option<usize>),
    told: &mut dyn FnMut(Told) -> Result<Vec<usize>>,
) -> Result<Vec<Vec<i64>>> {
    let prompts: Vec<Vec<i64>> = texts.iter().map(|text| text.ids.clone()).collect();
    let seeds: Vec<u64> = texts.iter().map(|text| text.seed).collect();
    let mut steer = hooks(texts, model.spec.d_model);
    let trace = along.map(|along| Trace::new(along.layer, &along.direction, model.device()));
    let (mut trace, products) = trace.unzip();
    let traced = || products.as_ref().map_or_else(Vec::new, |products| products.take());
    let mut all: Vec<&mut dyn Hook> = trace.iter_mut().map(|trace| trace as &mut dyn Hook).collect();
    all.extend(steer.iter_mut().map(|hook| hook as &mut dyn Hook));
    // The number of tokens of each text that are traced so far.
    let mut seen = vec![0; texts.len()];
    let mut step = |step: &Step| {
        let traced = traced();
        traced.iter().for_each(|t| seen[t.sequence] = seen[t.sequence].max(t.token + 1));
        told(Told { tokens: drawn(step, top)?, traced })
    };
    let written = model.generate_stepwise(&prompts, sampling, &seeds, &mut all, &mut step)?;
    let whole: Vec<Vec<i64>> =
        prompts.iter().zip(&written).map(|(prompt, new)| [&prompt[..], new].concat()).collect();
    if products.is_some() && seen.iter().zip(&whole).any(|(seen, whole)| *seen < whole.len()) {
        let lengths: Vec<usize> = prompts.iter().map(Vec::len).collect();
        let batch = Batch::with_prompts(&whole, &lengths)?;
        let _resid = model.forward(&batch, &mut all, along.map(|along| along.layer))?;
        let mut rest = traced();
        rest.retain(|t| t.token >= seen[t.sequence]);
        told(Told { tokens: Vec::new(), traced: rest })?;
    }
    Ok(written)
}

/// The tokens that a step sampled, with the requested log-probabilities.
fn drawn(step: &Step, top: Option<usize>) -> Result<Vec<Token>> {
    let plain = |drawn: &crate::lm::generate::Drawn| Token {
        text: drawn.sequence,
        id: drawn.token,
        ends: drawn.ends,
        is_last: drawn.is_last,
        logprob: None,
        likeliest: Vec::new(),
    };
    let mut tokens: Vec<Token> = step.drawn.iter().map(plain).collect();
    let Some(top) = top else { return Ok(tokens) };
    let ids: Vec<i64> = tokens.iter().map(|token| token.id).collect();
    let found = likeliest(step.logits, &ids, top)?;
    for (token, (logprob, likeliest)) in tokens.iter_mut().zip(found) {
        token.logprob = Some(logprob);
        token.likeliest = likeliest;
    }
    Ok(tokens)
}

/// A token's log-probability, and those of the most likely tokens at its position.
type Likely = (f64, Vec<(i64, f64)>);

/// For each row of logits `[n, d_vocab]`, the log-probability of its token and the `top` most likely tokens.
fn likeliest(logits: &Tensor, ids: &[i64], top: usize) -> Result<Vec<Likely>> {
    let logprobs = logits.log_softmax(-1, Kind::Float);
    let ids = send(&Tensor::from_slice(ids), logprobs.device()).unsqueeze(1);
    let own = Vec::<f32>::try_from(fetch(&logprobs.gather(-1, &ids, false)).view([-1]))?;
    ensure!(own.iter().all(|x| !x.is_nan()), "a log-probability is not a number: the steering is too strong");
    let top = (top as i64).min(logprobs.size()[1]);
    if top == 0 {
        return Ok(own.iter().map(|&own| (f64::from(own), Vec::new())).collect());
    }
    let (values, places) = logprobs.topk(top, -1, true, true);
    let values = Vec::<f32>::try_from(fetch(&values).contiguous().view([-1]))?;
    let places = Vec::<i64>::try_from(fetch(&places).contiguous().view([-1]))?;
    let row = |at: usize| {
        let range = at * top as usize..(at + 1) * top as usize;
        places[range.clone()].iter().copied().zip(values[range].iter().map(|&x| f64::from(x))).collect()
    };
    Ok(own.iter().enumerate().map(|(at, &own)| (f64::from(own), row(at))).collect())
}

/// The log-probability of each token of a text except the first, which nothing predicts, with the `top` most likely
/// tokens at its position.
///
/// # Errors
/// The text is empty or longer than the context; a log-probability is NaN.
pub fn read(model: &LanguageModel, text: &Text, top: usize) -> Result<Vec<Token>> {
    let mut steer = hooks(std::slice::from_ref(text), model.spec.d_model);
    let mut all: Vec<&mut dyn Hook> = steer.iter_mut().map(|hook| hook as &mut dyn Hook).collect();
    let batch = Batch::new(&[&text.ids])?;
    let resid = model.forward(&batch, &mut all, None)?.get(0);
    let mut tokens = Vec::with_capacity(text.ids.len());
    let next = &text.ids[1..];
    for (part, ids) in next.chunks((LOGITS / model.spec.d_vocab).max(1)).enumerate() {
        let from = (part * (LOGITS / model.spec.d_vocab).max(1)) as i64;
        let logits = model.logits(&resid.narrow(0, from, ids.len() as i64));
        for (&id, (logprob, likeliest)) in ids.iter().zip(likeliest(&logits, ids, top)?) {
            tokens.push(Token {
                text: 0,
                id,
                ends: false,
                is_last: false,
                logprob: Some(logprob),
                likeliest,
            });
        }
    }
    Ok(tokens)
}

/// The hooks that steer a batch of `texts`: at each layer, as many as the largest number of additions there in any
/// text.
fn hooks(texts: &[Text], d_model: usize) -> Vec<Steer> {
    let mut at: BTreeMap<Layer, usize> = BTreeMap::new();
    for text in texts {
        for added in &text.added {
            let most = at.entry(added.layer).or_default();
            *most = (*most).max(text.added.iter().filter(|other| other.layer == added.layer).count());
        }
    }
    let hook = |layer: Layer, number: usize| {
        let (mut vectors, mut spans) = (Vec::with_capacity(texts.len() * d_model), Vec::new());
        for text in texts {
            match text.added.iter().filter(|added| added.layer == layer).nth(number) {
                Some(added) => {
                    vectors.extend_from_slice(&added.vector);
                    spans.push(added.spans.clone());
                }
                None => {
                    vectors.resize(vectors.len() + d_model, 0.0);
                    spans.push(Vec::new());
                }
            }
        }
        let vector = Tensor::from_slice(&vectors).view([texts.len() as i64, d_model as i64]);
        Steer { layer, vector, strength: 1.0, spans: Spans::Each(spans) }
    };
    at.into_iter()
        .flat_map(|(layer, most)| (0..most).map(move |number| (layer, number)))
        .map(|(l, n)| hook(l, n))
        .collect()
}

/// The vector `all` (`[layer, d_model]`) split over `layers`, each part added to the same tokens.
pub fn added(layers: &[Layer], all: &[f32], spans: &[Range<usize>]) -> Vec<Added> {
    if all.is_empty() || layers.is_empty() {
        return Vec::new();
    }
    let of_layer =
        |(&layer, vector): (&Layer, &[f32])| Added { layer, vector: vector.to_vec(), spans: spans.to_vec() };
    layers.iter().zip(all.chunks_exact(all.len() / layers.len())).map(of_layer).collect()
}

/// The tokens of a plain text, and the number of them that the tokenizer puts before it.
///
/// # Errors
/// There is nothing to continue; the text is longer than the context.
pub fn plain(model: &LanguageModel, text: &str) -> Result<(Vec<i64>, usize)> {
    let tokens = model.encode(text)?;
    ensure!(!tokens.ids.is_empty(), "the prompt is empty, and the tokenizer adds no token at its beginning");
    model.check_length(tokens.ids.len()).context("the prompt")?;
    Ok((tokens.ids, tokens.text.start))
}
