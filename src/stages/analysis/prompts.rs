//! Prompts by class, as given in the experiment file. Does not run them through a model.

use crate::params::{Problem, Read, Reader, Reported};

/// The minimum number of prompts per class: two halves, one of which has more than a single prompt.
pub const FEWEST: usize = 3;

/// Prompts of one class.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Class {
    pub name: String,
    pub prompts: Vec<String>,
}

/// The classes under `name`, each with enough prompts.
pub fn classes(reader: &Reader<'_>, name: &str) -> Read<Vec<Class>> {
    let mut all = Vec::new();
    let mut wrong = false;
    for (class, span, texts) in reader.named_texts(name)? {
        let prompts: Vec<String> = texts.into_iter().map(|(text, _)| text).collect();
        if prompts.len() < FEWEST {
            let message = format!("class `{class}` has {} prompts", prompts.len());
            reader.note(Problem::at(span, message).hint(format!("write at least {FEWEST}")));
            wrong = true;
        }
        all.push(Class { name: class, prompts });
    }
    if wrong { Err(Reported) } else { Ok(all) }
}
