//! `[analysis.<name>.implicit]` and `[analysis.<name>.intensity]`: the texts that are put to a model, and the emotions
//! that they imply. Computes nothing.

use crate::params::problem::{Problem, quoted};
use crate::params::{Read, Reader, Reported};
use crate::stages::analysis::implicit::{Implicit, Situation};
use crate::stages::analysis::intensity::{Intensity, NUMBER, Template};

/// `emotions`: none if those are wrong.
pub(super) fn implicit(reader: &Reader<'_>, emotions: Option<&[String]>) -> Read<Implicit> {
    let (pairs, wrap) = (reader.pairs("situations"), reader.get("wrap"));
    let pairs = pairs?;
    let mut wrong = false;
    for [(text, span), _] in &pairs {
        if text.trim().is_empty() {
            reader.note(Problem::at(span.clone(), "a situation without text").hint("take it out"));
            wrong = true;
        }
    }
    let situations: Vec<Situation> =
        pairs.into_iter().map(|[(text, _), (emotion, _)]| Situation { text, emotion }).collect();
    let there = |emotions: &[String]| situations.iter().any(|s| emotions.contains(&s.emotion));
    if emotions.is_some_and(|emotions| !there(emotions)) {
        let message = "no situation implies an emotion of this experiment";
        return reader.wrong(Problem::at(reader.span_of("situations"), message).hint(
            "write `situations = [[\"what happens\", \"emotion\"], ...]` with emotions of `emotions`",
        ));
    }
    if wrong { Err(Reported) } else { Ok(Implicit { situations, wrap: wrap? }) }
}

/// `emotions`: none if those are wrong.
pub(super) fn intensity(reader: &Reader<'_>, emotions: Option<&[String]>) -> Read<Intensity> {
    let (templates, wrap) = (reader.named("templates"), reader.get("wrap"));
    let read: Vec<Read<Template>> =
        templates?.into_iter().map(|(entry, reader)| template(entry.key, &reader)).collect();
    let templates = read.into_iter().collect::<Read<Vec<Template>>>()?;
    let there = |emotions: &[String]| templates.iter().any(|t| !t.probes(emotions).is_empty());
    if emotions.is_some_and(|emotions| !there(emotions)) {
        let message = "no template names an emotion of this experiment";
        return reader.wrong(
            Problem::at(reader.span_of("templates"), message)
                .hint("name emotions of `emotions` in `rise` and `fall` of a template"),
        );
    }
    Ok(Intensity { templates, wrap: wrap? })
}

fn template(name: String, reader: &Reader<'_>) -> Read<Template> {
    let (texts, numbers) = (texts(reader), numbers(reader));
    let (rise, fall) = (reader.texts("rise"), reader.texts("fall"));
    let words = |list: Option<Vec<_>>| list.unwrap_or_default().into_iter().map(|(word, _)| word).collect();
    let template =
        Template { name, texts: texts?, numbers: numbers?, rise: words(rise?), fall: words(fall?) };
    if let Some(both) = template.rise.iter().find(|emotion| template.fall.contains(emotion)) {
        let problem = Problem::at(reader.span_of("fall"), format!("{} is to rise and to fall", quoted(both)));
        return reader.wrong(problem.hint("name it in one of the two"));
    }
    if template.rise.is_empty() && template.fall.is_empty() {
        let problem = Problem::at(reader.span(), "a template without emotions");
        return reader.wrong(problem.hint("name those that should go with the number in `rise` and `fall`"));
    }
    Ok(template)
}

fn texts(reader: &Reader<'_>) -> Read<Vec<String>> {
    let mut wrong = false;
    let mut texts = Vec::new();
    for (text, span) in reader.texts("texts")?.unwrap_or_default() {
        if !text.contains(NUMBER) {
            let problem = Problem::at(span, format!("a text without `{NUMBER}`"));
            reader.note(problem.hint("write it where the number stands"));
            wrong = true;
        }
        texts.push(text);
    }
    if wrong { Err(Reported) } else { Ok(texts) }
}

/// Of three numbers all six orders are a sixth of all each: no p below .05 can come of them.
const FEWEST: usize = 4;

fn numbers(reader: &Reader<'_>) -> Read<Vec<f64>> {
    let numbers: Vec<f64> = reader.numbers("numbers")?.into_iter().map(|(number, _)| number).collect();
    if numbers.len() < FEWEST {
        let message = format!("a template needs at least {FEWEST} numbers, there are {}", numbers.len());
        let problem = Problem::at(reader.span_of("numbers"), message);
        return reader.wrong(problem.hint("of fewer, no trend can be told from chance"));
    }
    Ok(numbers)
}
