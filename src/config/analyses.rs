//! `[analysis]`: which analyses there are, with their parameters. Computes nothing.

use std::path::Path;

use super::across::{self, Either};
use super::{Across, Analysis, Layers, Scale, Span, behaviour};
use crate::lm::Layer;
use crate::params::problem::{Problem, quoted, suggestion};
use crate::params::{Chosen, Form, Params as _, Read, Reader, Reported};
use crate::stages::analysis::geometry::{Family, Geometry};
use crate::stages::analysis::norms::Norms;
use crate::stages::analysis::probe::Probe;
use crate::stages::analysis::{Analysis as Kind, cosine::Cosine, logit_lens::LogitLens, pca::Pca, steering};

/// Names that nodes of other stages begin with, and those of the tables over all analyses.
const TAKEN: [&str; 10] = [
    "stories",
    "neutral",
    "activations",
    "vectors",
    "report",
    "comparison",
    "layers",
    "claims",
    "findings",
    "methods",
];

/// The analyses of a file.
#[derive(Default)]
pub(super) struct Analyses {
    pub single: Vec<Analysis>,
    pub across: Vec<Across>,
    pub scale: Vec<Scale>,
}

/// Every analysis that is right in itself, in the order of the file. `emotions`: none if those are wrong.
pub(super) fn analyses(
    root: &Reader<'_>,
    project: &Path,
    emotions: Option<&[String]>,
    kept: Option<&Layers>,
) -> Read<Analyses> {
    let mut analyses = Analyses::default();
    for chosen in root.named_kinds("analysis")? {
        let Chosen { name, kind, span, reader } = &chosen;
        if TAKEN.contains(&name.as_str()) {
            let problem = Problem::at(span.clone(), format!("an analysis cannot be named `{name}`"));
            reader.note(problem.hint(format!(
                "that is what a stage or a table of all is called; choose another name than {}",
                TAKEN.join(", ")
            )));
        }
        if let Some(read) = across::read(&chosen) {
            match read {
                Ok(Either::Pairs(pairs)) => analyses.across.push(pairs),
                Ok(Either::Scale(scale)) => analyses.scale.push(scale),
                Err(Reported) => {}
            }
            continue;
        }
        let read = match kind.name {
            "pca" => Pca::read(reader).map(Kind::Pca),
            "cosine" => pairs(reader, emotions).map(|pairs| Kind::Cosine(Cosine { pairs })),
            "logit_lens" => LogitLens::read(reader).map(Kind::LogitLens),
            "steering" => steering(reader, kept).map(Kind::Steering),
            "implicit" => behaviour::implicit(reader, emotions).map(Kind::Implicit),
            "intensity" => behaviour::intensity(reader, emotions).map(Kind::Intensity),
            "geometry" => geometry(reader, emotions).map(Kind::Geometry),
            "probe" => Probe::read(reader).map(Kind::Probe),
            "norms" => norms(reader, project).map(Kind::Norms),
            other => unreachable!("`{other}` is in the list of keys"),
        };
        // What is wrong with a file of ratings is shown where the file is named.
        let span = if matches!(read, Ok(Kind::Norms(_))) { reader.span_of("file") } else { span.clone() };
        if let Ok(kind) = read {
            analyses.single.push(Analysis { name: name.clone(), kind, span });
        }
    }
    Ok(analyses)
}

fn pairs(reader: &Reader<'_>, emotions: Option<&[String]>) -> Read<Vec<(String, String)>> {
    let pairs = reader.pairs("pairs")?;
    let mut wrong = false;
    for pair in &pairs {
        for (word, span) in pair {
            wrong |= unknown(reader, word, span, emotions);
        }
        let [(a, _), (b, span)] = pair;
        if a == b {
            let problem = Problem::at(span.clone(), format!("{} is paired with itself", quoted(a)));
            reader.note(problem.hint("that cosine is 1; name two emotions"));
            wrong = true;
        }
    }
    if wrong { Err(Reported) } else { Ok(pairs.into_iter().map(|[(a, _), (b, _)]| (a, b)).collect()) }
}

fn geometry(reader: &Reader<'_>, emotions: Option<&[String]>) -> Read<Geometry> {
    let (pairs, families) = (pairs(reader, emotions), families(reader, emotions));
    let (resamples, permutations) = (reader.get("resamples"), reader.get("permutations"));
    let halves = reader.get("halves");
    Ok(Geometry {
        pairs: pairs?,
        families: families?,
        resamples: resamples?,
        permutations: permutations?,
        halves: halves?,
    })
}

fn norms(reader: &Reader<'_>, project: &Path) -> Read<Norms> {
    let file = match reader.has("file") {
        true => reader.filled("file").map(|file| Some(project.join(file))),
        false => Ok(None),
    };
    let components = reader.get("components");
    let (resamples, permutations) = (reader.get("resamples"), reader.get("permutations"));
    Ok(Norms {
        file: file?,
        content: None,
        components: components?,
        resamples: resamples?,
        permutations: permutations?,
    })
}

/// Families of emotions, none in two of them.
fn families(reader: &Reader<'_>, emotions: Option<&[String]>) -> Read<Vec<Family>> {
    let mut families: Vec<Family> = Vec::new();
    let mut wrong = false;
    for (name, _, texts) in reader.named_texts("families")? {
        let mut words = Vec::new();
        for (word, span) in texts {
            if let Some(other) = families.iter().find(|family| family.words.contains(&word)) {
                let message = format!("{} is in two families, `{}` and `{name}`", quoted(&word), other.name);
                reader.note(Problem::at(span, message).hint("keep it in one of them"));
                wrong = true;
            } else if unknown(reader, &word, &span, emotions) {
                wrong = true;
            } else {
                words.push(word);
            }
        }
        families.push(Family { name, words });
    }
    if wrong { Err(Reported) } else { Ok(families) }
}

/// Notes a word that is no emotion of the experiment.
fn unknown(reader: &Reader<'_>, word: &str, span: &Span, emotions: Option<&[String]>) -> bool {
    let known = |emotions: &&[String]| !emotions.iter().any(|emotion| emotion == word);
    let Some(emotions) = emotions.filter(known) else { return false };
    let hint = match suggestion(word, "", emotions.iter().map(String::as_str)) {
        hint if hint.starts_with("did") => hint,
        _ => format!("add it to `emotions.words`, or name one of the {} emotions", emotions.len()),
    };
    let message = format!("{} is not an emotion of this experiment", quoted(word));
    reader.note(Problem::at(span.clone(), message).hint(hint));
    true
}

fn steering(reader: &Reader<'_>, kept: Option<&Layers>) -> Read<steering::Steering> {
    let (prompts, strength, unit) = (prompts(reader), strength(reader), reader.get("unit"));
    let (layers, positions) = (steered(reader, kept), reader.get("positions"));
    let (random, permuted, shuffled) = (reader.get("random"), reader.get("permuted"), reader.get("shuffled"));
    let (resamples, coherence) = (reader.get("resamples"), reader.get("coherence"));
    Ok(steering::Steering {
        prompts: prompts?,
        strength: strength?,
        unit: unit?,
        layers: layers?,
        positions: positions?,
        random: random?,
        permuted: permuted?,
        shuffled: shuffled?,
        resamples: resamples?,
        coherence: coherence?,
    })
}

pub(super) fn prompts(reader: &Reader<'_>) -> Read<Vec<String>> {
    let mut prompts = Vec::new();
    let mut wrong = false;
    for (prompt, span) in reader.texts("prompts")?.unwrap_or_default() {
        if prompt.ends_with(char::is_whitespace) {
            let problem = Problem::at(span, "a prompt must not end in white space");
            reader.note(problem.hint("each emotion's word is put behind it with a space of its own"));
            wrong = true;
        }
        prompts.push(prompt);
    }
    if wrong { Err(Reported) } else { Ok(prompts) }
}

fn strength(reader: &Reader<'_>) -> Read<Vec<f64>> {
    let mut strengths = Vec::new();
    let mut wrong = false;
    for (strength, span) in reader.numbers("strength")? {
        if strength == 0.0 {
            let problem = Problem::at(span, "steering by 0 changes nothing");
            reader.note(
                problem.hint("take it out; the log-probability without steering is measured in any case"),
            );
            wrong = true;
        }
        strengths.push(strength);
    }
    if wrong { Err(Reported) } else { Ok(strengths) }
}

/// `kept`: the experiment's layers, where each model keeps just those.
fn steered(reader: &Reader<'_>, kept: Option<&Layers>) -> Read<steering::Layers> {
    let list = match reader.forms("layers")? {
        Some(Form::Layers(list)) => list,
        Some(Form::Word("all")) => return Ok(steering::Layers::All),
        _ => return Ok(steering::Layers::Default),
    };
    if let Some(kept) = kept.and_then(Layers::listed)
        && let Some(layer) = list.iter().find(|layer| !kept.contains(layer))
    {
        let problem = Problem::at(reader.span_of("layers"), format!("layer {layer} is steered but not kept"));
        let kept: Vec<_> = kept.iter().map(Layer::to_string).collect();
        return reader.wrong(problem.hint(format!("kept layers: {}", kept.join(", "))));
    }
    Ok(steering::Layers::List(list))
}
