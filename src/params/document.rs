//! Describes tables and types in words: Markdown for `docs/experiment.md`, and the expected values in messages.

use std::fmt::Write;

use super::presets::Preset;
use super::table::{Default, Placed, Type};

impl Placed {
    /// As Markdown: its purpose and its keys.
    pub fn markdown(&self) -> String {
        let header = if self.path.is_empty() { String::new() } else { format!("`[{}]`: ", self.path) };
        let mut text =
            format!("\n{header}{}\n\n| key | type | default | meaning |\n|---|---|---|---|\n", self.about());
        for key in self.keys() {
            let default = match key.default {
                Default::Required => "required".to_string(),
                Default::Is(value) => format!("`{value}`"),
                Default::Said(said) | Default::Ships(said, _) => said.to_string(),
            };
            // Writing to a string cannot fail.
            let name = if key.is_others() { "<name>" } else { key.name };
            let _ =
                writeln!(text, "| `{}` | {} | {default} | {} |", name, key.of, key.about.replace('|', "\\|"));
        }
        text.push('\n');
        text
    }
}
/// The type in words, for a table of the document and for messages.
impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let codes =
            |words: &[&str]| words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ");
        let names = |presets: &[Preset]| codes(&presets.iter().map(|preset| preset.name).collect::<Vec<_>>());
        match self {
            Type::Text => write!(f, "string"),
            Type::Name => write!(f, "name"),
            Type::Bool => write!(f, "`true` or `false`"),
            Type::Integer { min, max: i64::MAX } => write!(f, "integer, at least {min}"),
            Type::Integer { min, max } => write!(f, "integer, {min} to {max}"),
            Type::Number { from, above: true, to } => write!(f, "number, above {from}, at most {to}"),
            Type::Number { from, above: false, to } => write!(f, "number, {from} to {to}"),
            Type::Choice(words) => write!(f, "one of {}", codes(&words())),
            Type::Preset(presets) => write!(f, "one of {}", names(presets)),
            Type::PresetOrTexts(presets) => write!(f, "{}, or list of strings", names(presets)),
            Type::Texts => write!(f, "list of strings"),
            Type::Numbers => write!(f, "list of numbers"),
            Type::Pairs => write!(f, "list of pairs of strings"),
            Type::NamedTexts => write!(f, "table of lists of strings"),
            Type::TextByName => write!(f, "table of strings"),
            Type::Fields => write!(f, "table"),
            Type::TextOrFields => write!(f, "string, or table"),
            Type::Forms { words, layers, table } => {
                let layers = layers.then(|| "list of block numbers and `\"embed\"`".to_string());
                let words = (!words.is_empty()).then(|| codes(words));
                write!(f, "{}", words.into_iter().chain(layers).collect::<Vec<_>>().join(", "))?;
                if let Some(table) = table {
                    write!(f, ", or table")?;
                    let keys: Vec<_> = table.keys.iter().map(|key| format!("`{}`", key.name)).collect();
                    write!(f, " ({})", keys.join(", "))?;
                }
                Ok(())
            }
            Type::Table(_) | Type::Inline(_) | Type::Kind(_) => write!(f, "table"),
            Type::Sweep => write!(f, "lists of values under keys of the file"),
            Type::Named(_) | Type::Others(_) => write!(f, "tables by name"),
            Type::Kinds(kinds) | Type::NamedKinds(kinds) => {
                let kinds: Vec<_> = kinds().iter().map(|kind| format!("`{}`", kind.name)).collect();
                let by_name =
                    if matches!(self, Type::NamedKinds(_)) { "tables by name, each" } else { "table," };
                write!(f, "{by_name} one of {}", kinds.join(", "))
            }
        }
    }
}
