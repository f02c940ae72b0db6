//! Phrasings that contain a number, which makes something more or less intense, as given in the experiment file.

use crate::params::problem::quoted;
use crate::params::{Params as _, Parts, Problem, Read, Reader, Span, Type, params};

/// The placeholder of the number in a text.
pub const NUMBER: &str = "{number}";

/// With three numbers each of the six orders has a share of a sixth, so that p cannot be below .05.
const FEWEST: usize = 4;

params! {
    /// One thing of which there is more or less.
    #[check(rises_or_falls)]
    pub struct Template {
        /// As its table is called.
        #[of(Type::NONE)]
        #[with(nameless)]
        pub name: String;
        /// Phrasings of it, each with `{number}` in it.
        #[with(texts)]
        pub texts: Vec<String>;
        /// What is put there, one after another; at least four.
        #[of(Type::Numbers)]
        #[with(numbers)]
        pub numbers: Vec<f64>;
        /// Emotions that should rise with the number.
        #[unset("none")]
        pub rise: Vec<String>;
        /// Emotions that should fall.
        #[unset("none")]
        pub fall: Vec<String>;
    }
}

/// All templates of a table.
pub fn all(reader: &Reader<'_>, name: &str) -> Read<Vec<Template>> {
    let read = |table: &Reader<'_>, name| Template::read(table).map(|template| Template { name, ..template });
    let templates: Vec<Read<Template>> =
        reader.named(name)?.into_iter().map(|(entry, table)| read(&table, entry.key)).collect();
    let templates = templates.into_iter().collect::<Read<Vec<Template>>>()?;
    let there = |emotions: &Vec<String>| templates.iter().any(|t| !t.probes(emotions).is_empty());
    if reader.scope.emotions.get().is_some_and(|emotions| !there(emotions)) {
        let problem = Problem::at(reader.span_of(name), "no template names an emotion of this experiment");
        return reader.wrong(problem.hint("name emotions of `emotions` in `rise` and `fall` of a template"));
    }
    Ok(templates)
}

fn nameless(_: &Reader<'_>, _: &str) -> Read<String> {
    Ok(String::new())
}

fn rises_or_falls(reader: &Reader<'_>, parts: &Parts<Template>) -> Read<()> {
    let (Ok(rise), Ok(fall)) = (&parts.rise, &parts.fall) else { return Ok(()) };
    if let Some(both) = rise.iter().find(|emotion| fall.contains(emotion)) {
        let problem = Problem::at(reader.span_of("fall"), format!("{} is to rise and to fall", quoted(both)));
        return reader.wrong(problem.hint("name it in one of the two"));
    }
    if rise.is_empty() && fall.is_empty() {
        let problem = Problem::at(reader.span(), "a template without emotions");
        return reader.wrong(problem.hint("name those that should go with the number in `rise` and `fall`"));
    }
    Ok(())
}

fn texts(reader: &Reader<'_>, name: &str) -> Read<Vec<String>> {
    let check = |(text, span): (String, Span)| {
        if text.contains(NUMBER) {
            return Ok(text);
        }
        let problem = Problem::at(span, format!("a text without `{NUMBER}`"));
        reader.wrong(problem.hint("write it where the number stands"))
    };
    let texts: Vec<Read<String>> = reader.texts(name)?.into_iter().flatten().map(check).collect();
    texts.into_iter().collect()
}

fn numbers(reader: &Reader<'_>, name: &str) -> Read<Vec<f64>> {
    let numbers: Vec<f64> = reader.numbers(name)?.into_iter().map(|(number, _)| number).collect();
    if numbers.len() < FEWEST {
        let message = format!("a template needs at least {FEWEST} numbers, there are {}", numbers.len());
        let problem = Problem::at(reader.span_of(name), message);
        return reader.wrong(problem.hint("of fewer, no trend can be told from chance"));
    }
    Ok(numbers)
}
