//! Resolves the labels of a file to emotions. Independent of files.

use std::collections::{BTreeMap, HashMap};

use crate::stages::stories::words::folded;

/// The label of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Label {
    /// No label.
    Missing,
    /// The label as written, and the name that the file gives to it if it is a number.
    One { written: String, name: Option<String> },
    /// More than one label: the story belongs to none of them alone.
    Several,
}

impl Label {
    /// The label of one cell. A number is written without a zero fraction.
    pub fn of(cell: Option<String>) -> Label {
        let written = cell.map(|cell| cell.trim().to_string()).filter(|cell| !cell.is_empty());
        let Some(written) = written else { return Label::Missing };
        let number = written.strip_suffix(".0").filter(|whole| whole.parse::<i64>().is_ok());
        let written = number.map(str::to_string).unwrap_or(written);
        Label::One { written, name: None }
    }

    /// The same label with the name that `names` has for its number.
    pub fn named(self, names: Option<&[String]>) -> Label {
        match self {
            Label::One { written, .. } => {
                let number = written.parse::<usize>().ok();
                let name = number.zip(names).and_then(|(number, names)| names.get(number).cloned());
                Label::One { written, name }
            }
            other => other,
        }
    }

    /// For people: the name, or the label as written.
    pub fn shown(&self) -> Option<&str> {
        match self {
            Label::One { written, name } => Some(name.as_deref().unwrap_or(written)),
            _ => None,
        }
    }
}

/// The emotions of an experiment by every spelling.
pub struct Emotions<'a> {
    places: HashMap<String, usize>,
    /// The emotions that the experiment assigns to labels.
    labels: &'a BTreeMap<String, String>,
}

impl<'a> Emotions<'a> {
    pub fn new(words: &[String], labels: &'a BTreeMap<String, String>) -> Emotions<'a> {
        Emotions { places: words.iter().enumerate().map(|(at, word)| (folded(word), at)).collect(), labels }
    }

    /// The index of the emotion that a label stands for: by the entry of `labels` for the label as written or for its
    /// name, or else by its name in any spelling.
    pub fn place(&self, label: &Label) -> Option<usize> {
        let Label::One { written, name } = label else { return None };
        let said = |label: &String| self.labels.get(label);
        let meant = said(written).or_else(|| said(name.as_ref()?)).or(name.as_ref()).unwrap_or(written);
        self.places.get(&folded(meant)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_experiment_says_comes_before_names_and_spelling() {
        let words = ["grief-stricken", "joy", "sadness"].map(String::from);
        let said = [("0", "joy"), ("affraid", "sadness"), ("anger", "boredom")];
        let said = said.map(|(label, word)| (label.to_string(), word.to_string())).into();
        let emotions = Emotions::new(&words, &said);
        let names = ["anger", "joy", "sadness"].map(String::from);
        let of = |cell: &str, names| emotions.place(&Label::of(Some(cell.into())).named(names));
        for (cell, want) in [
            ("0", Some(1)),
            ("0.0", Some(1)),
            ("1", None),
            ("affraid", Some(2)),
            (" Grief_Stricken", Some(0)),
            ("anger", None),
        ] {
            assert_eq!(of(cell, None), want, "{cell}");
        }
        for (cell, want) in [("0", Some(1)), ("2", Some(2)), ("7", None), ("-1", None), ("joy", Some(1))] {
            assert_eq!(of(cell, Some(&names)), want, "{cell}");
        }
        assert_eq!(emotions.place(&Label::Several), None);
        assert_eq!(Label::of(Some(" ".into())), Label::Missing);
    }
}
