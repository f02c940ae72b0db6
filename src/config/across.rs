//! `[analysis]`, across models: analyses of two sets of vectors, and of metrics over models, with their parameters.
//! Computes nothing.

use super::validate::Parts;
use super::{Across, Analysis, Scale, Source, analyses};
use crate::params::problem::{Problem, quoted, suggestion};
use crate::params::{Chosen, Read, Reader};
use crate::stages::across::{cka::Cka, rsa, rsa::Rsa, transfer};
use crate::stages::analysis::Analysis as Kind;

/// What an `[analysis.<name>.<kind>]` across models is.
pub(super) enum Either {
    Pairs(Across),
    Scale(Scale),
}

/// Reads it; `None`: it is no kind across models.
pub(super) fn read(chosen: &Chosen<'_>) -> Option<Read<Either>> {
    let Chosen { name, kind, span, reader } = chosen;
    let pairs = |kind: Read<Kind>| {
        kind.map(|kind| Either::Pairs(Across { name: name.clone(), kind, span: span.clone() }))
    };
    Some(match kind.name {
        "rsa" => pairs(rsa(reader).map(Kind::Rsa)),
        "cka" => pairs(cka(reader).map(Kind::Cka)),
        "transfer" => pairs(transfer(reader).map(Kind::Transfer)),
        "scale" => scale(name, span, reader).map(Either::Scale),
        _ => return None,
    })
}

fn rsa(reader: &Reader<'_>) -> Read<Rsa> {
    let correlation = reader.get("correlation");
    let (permutations, bootstrap) = (reader.get("permutations"), reader.get("bootstrap"));
    Ok(Rsa { correlation: correlation?, permutations: permutations?, bootstrap: bootstrap? })
}

fn cka(reader: &Reader<'_>) -> Read<Cka> {
    let (stories, permutations) = (reader.get("stories"), reader.get("permutations"));
    Ok(Cka { stories: stories?, permutations: permutations? })
}

fn transfer(reader: &Reader<'_>) -> Read<transfer::Transfer> {
    let (map, ridge, layers) = (reader.get("map"), reader.get("ridge"), reader.get("layers"));
    let (folds, permutations) = (reader.get("folds"), reader.get("permutations"));
    let (bootstrap, steered, prompts) =
        (reader.get("bootstrap"), reader.get("steer"), analyses::prompts(reader));
    let (strength, random) = (reader.get("strength"), reader.get("random"));
    let map = map?;
    Ok(transfer::Transfer {
        map,
        ridge: Some(ridge?).filter(|_| map == transfer::Kinds::Ridge),
        layers: layers?,
        folds: folds?,
        permutations: permutations?,
        bootstrap: bootstrap?,
        steer: Some(transfer::Steer { prompts: prompts?, strength: strength?, random: random? })
            .filter(|_| matches!(steered, Ok(true))),
    })
}

fn scale(name: &str, span: &super::Span, reader: &Reader<'_>) -> Read<Scale> {
    let (of, permutations) = (reader.texts("of"), reader.get("permutations"));
    let of = of?;
    let of_spans = of.iter().flatten().map(|(_, span)| span.clone()).collect();
    let of = of.map(|of| of.into_iter().map(|(wanted, _)| wanted).collect());
    let name = name.to_string();
    Ok(Scale { name, of, of_spans, permutations: permutations?, span: span.clone() })
}

/// Notes what no analysis across models can be made of: one model, one set, stories that no two models read.
pub(super) fn validate(
    parts: &Parts<'_>,
    across: &[Across],
    scale: &[Scale],
    analyses: &[Analysis],
    root: &Reader<'_>,
) {
    let two = "add a second `[models.<name>]` table, or take the analysis out";
    for Across { name, kind, span } in across {
        let what = format!("`{}` ({name})", kind.kind());
        let problem = |message: String, hint: &str| Problem::at(span.clone(), message).hint(hint);
        let sets = parts.models.len() * parts.stories.len();
        if kind.inputs().sets.same_stories() && parts.models.len() == 1 {
            root.note(problem(format!("{what} compares models, and there is one"), two));
        } else if !kind.inputs().sets.same_stories() && sets == 1 {
            let hint = "add a second model or a second source of stories, or take the analysis out";
            root.note(problem(format!("{what} compares sets of vectors, and there is one"), hint));
        } else if kind.inputs().sets.same_stories()
            && sets > 0
            && !parts.stories.iter().any(Source::is_shared)
        {
            let message = format!(
                "{what} needs stories that two models read, and here each reads what it wrote itself"
            );
            let hint = "add a source that all read (`template`, `file`, or `generate` with one of [models] as its \
                        `model`), or use `rsa`, which compares vectors";
            root.note(problem(message, hint));
        }
        let few = parts.emotions.filter(|emotions| emotions.len() < rsa::FEWEST);
        if let Some(emotions) = few.filter(|_| !matches!(kind, Kind::Cka(_))) {
            let message =
                format!("{what} compares emotions with each other, and there are {}", emotions.len());
            root.note(problem(message, "name at least three emotions"));
        }
    }
    for Scale { name, of, of_spans, span, .. } in scale {
        let what = format!("`scale` ({name})");
        let problem =
            |span: &super::Span, message, hint: String| Problem::at(span.clone(), message).hint(hint);
        if parts.models.len() == 1 {
            root.note(problem(span, format!("{what} compares models, and there is one"), two.to_string()));
        }
        let known: Vec<&str> = analyses.iter().map(|analysis| analysis.name.as_str()).collect();
        if known.is_empty() {
            let hint = "add one, such as `[analysis.space.pca]`".to_string();
            root.note(problem(
                span,
                format!("{what} shows metrics of other analyses, and there is none"),
                hint,
            ));
            continue;
        }
        let wanted = of.iter().flatten().zip(of_spans);
        for (wanted, span) in wanted.filter(|(wanted, _)| !known.contains(&wanted.as_str())) {
            let hint = suggestion(wanted, "analyses of single models:", known.iter().copied());
            root.note(problem(
                span,
                format!("there is no analysis {} to take metrics of", quoted(wanted)),
                hint,
            ));
        }
    }
}
