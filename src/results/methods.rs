//! A description of the methods as a paragraph to paste, with its bibliography. Independent of the individual
//! analyses.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Shown;
use super::claims::Found;
use super::comparison::distinct;
use crate::lm::{Layer, Wrap};
use crate::plan::Work;
use crate::record::{EMOFLOW, LIBTORCH};
use crate::report::{Section, fixed, short};
use crate::stages::vectors::{Center, Denoise};

/// The name of the chapter and of its files.
pub const METHODS: &str = "methods";

/// The bibliography of the paragraph, by citation key.
pub const REFERENCES: &str = include_str!("references.bib");

/// The chapter with the paragraph.
pub fn section(text: &str) -> Section {
    Section {
        id: METHODS.to_string(),
        title: "Methods".to_string(),
        intro: format!("{text}\n\nTo paste: {METHODS}.md, and references.bib for its citations."),
        ..Section::default()
    }
}

/// What was done on which models, and what was found at which layer, with the numbers filled in; citations as in
/// Pandoc's Markdown. For a sweep it describes the first variant.
///
/// # Errors
/// The store cannot be read.
pub fn text(shown: &Shown, found: &[Found]) -> Result<String> {
    let experiment = &shown.resolved.experiment;
    let device = &shown.resolved.device;
    let stories = stories(shown)?;
    let counts: Vec<String> = stories.iter().map(|(set, n)| format!("{n} stories on {set}")).collect();
    let mut text = format!(
        "Emotion vectors [@emotion_concepts_2026] of {} emotions were computed with emoflow {} (libtorch {}) on {} ({}): {}. ",
        experiment.emotions.len(),
        EMOFLOW,
        LIBTORCH,
        device.shown(),
        device.backend.name(),
        counts.join("; "),
    );
    let wrap = match experiment.activations.wrap {
        Wrap::Raw => "as plain text",
        Wrap::User => "as the user's turn of the model's chat template",
        Wrap::Assistant => "as the assistant's turn of the model's chat template",
    };
    text += &format!(
        "Each story was read {wrap}; the residual stream after a block (resid_post, blocks counted from 0) was averaged over \
         the story's own tokens from token {} on. ",
        experiment.activations.from_token
    );
    let centre = match experiment.vectors.center {
        Center::Emotions => " minus the mean over emotions of these means",
        Center::None => "",
    };
    let of = match experiment.vectors.tokens {
        None => "the activations of emotionless text".to_string(),
        Some(n) => {
            format!("the residual stream at {n} tokens of each emotionless text (all of one with fewer)")
        }
    };
    let denoised = match &experiment.vectors.denoise {
        Denoise::None => String::new(),
        Denoise::Components(n) => format!("; the first {n} principal components of {of} were projected out"),
        Denoise::Variance(share) => format!(
            "; the fewest principal components of {of} that hold {} % of their variance were projected out",
            short(100.0 * share)
        ),
    };
    text += &format!("The vector of an emotion is the mean over its stories{centre}{denoised}.");
    for model in shown.resolved.readers() {
        let commit = model.commit.as_ref().map_or(String::new(), |commit| format!(" at {commit}"));
        let n_layers = model.spec.n_layers();
        let dtype = (model.dtype.name(), model.compute_dtype.name());
        text += &format!(
            "\n\nModel {}: {}{commit} (content {}), {n_layers} blocks of d_model {}, weights in {}, arithmetic in {}.",
            model.name,
            model.shown(),
            model.identity.short(),
            model.spec.d_model,
            dtype.0,
            dtype.1
        );
        let single = found.iter().filter(|f| f.claim.model == model.name && f.claim.other.is_none());
        for set in distinct(single.map(Found::place)).into_iter().take(1) {
            let claims = found.iter().filter(|f| f.is_reported && f.place() == set && f.claim.null.is_some());
            let claims: Vec<&Found> = claims.collect();
            let layers = distinct(claims.iter().map(|found| found.claim.layer));
            if layers.is_empty() {
                text += " No claim on it was tested.";
                continue;
            }
            let layers: Vec<String> = layers.iter().map(Layer::to_string).collect();
            let told: Vec<String> = claims.iter().map(|found| told(found)).collect();
            text += &format!(" On {} at layer {}: {}.", set.1, layers.join(", "), told.join("; "));
        }
    }
    let of_two = found.iter().filter(|f| f.is_reported && f.claim.null.is_some() && f.claim.other.is_some());
    let of_two: Vec<&Found> = of_two.filter(|f| f.claim.axes == found[0].claim.axes).collect();
    for place in distinct(of_two.iter().map(|found| found.place())) {
        let here = of_two.iter().filter(|found| found.place() == place);
        let here: Vec<String> = here.map(|found| told(found)).collect();
        let other = place.3.unwrap_or_default();
        text += &format!("\n\n{} on {}, and {other}: {}.", place.0, place.1, here.join("; "));
    }
    let intervals = distinct(found.iter().filter_map(|found| Some(found.claim.interval?.1)));
    if !intervals.is_empty() {
        text += &format!(
            "\n\nIntervals are of 95 % [{} @efron_tibshirani_1993; @davison_hinkley_1997; @clopper_pearson_1934].",
            format_args!("{};", intervals.join("; "))
        );
    }
    if found.iter().any(|found| found.claim.null.is_some()) {
        text += " p-values count the observed value among the draws [@phipson_smyth_2010]; q-values adjust them over all tests \
            of one set of vectors at one layer [@benjamini_hochberg_1995].";
    }
    Ok(text)
}

/// `rated, PC1, valence: |r| 0.81 [0.70, 0.90] (p = 0.001, q = 0.002; ratings shuffled, 1000 draws)`.
fn told(found: &Found) -> String {
    let Found { analysis, claim, q, .. } = found;
    let unit = if claim.unit.is_empty() { String::new() } else { format!("{} ", claim.unit) };
    let number = |x: f64| fixed(x, claim.decimals);
    let ends = claim.ends().map_or(String::new(), |i| format!(" [{}, {}]", number(i.low), number(i.high)));
    let Some(null) = &claim.null else { return String::new() };
    let draws = if null.draws == 0 { "exact".to_string() } else { format!("{} draws", null.draws) };
    let q = q.map_or(String::new(), |q| format!(", q = {}", fixed(q, 3)));
    format!(
        "{analysis}, {}: {unit}{}{ends} (p = {}{q}; {}, {draws})",
        claim.what,
        number(claim.estimate),
        fixed(null.p, 3),
        null.of
    )
}

/// For each set of vectors of the first variant, `model, source`, the number of its stories.
fn stories(shown: &Shown) -> Result<Vec<(String, i64)>> {
    let mut counts: BTreeMap<String, i64> = BTreeMap::new();
    for node in shown.nodes() {
        let Work::Vectors { set, .. } = &node.work else { continue };
        let name = format!("{}, {}", set.model, set.stories);
        let Some(unit) = node.units.first().filter(|_| !counts.contains_key(&name)) else { continue };
        let Some(entry) = shown.entry(node, unit)? else { continue };
        let table = entry.read(node.work.stage())?;
        let layer = table.i32("layer")?;
        let of_first = table.i32("n_stories")?.iter().zip(layer).filter(|(_, at)| layer.first() == Some(at));
        counts.insert(name, of_first.map(|(n, _)| i64::from(*n)).sum());
    }
    Ok(counts.into_iter().collect())
}
