//! Human labels of texts, from a file. Independent of the scorer's results.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

/// A text, and whether a person labelled it as the act.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Label {
    #[serde(flatten)]
    pub of: Of,
    pub act: bool,
}

/// How a text is identified.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    SampleId(String),
    Text(String),
}

/// The labels of a CSV file (separated by commas or tabs) with the columns `label` and `sample_id`, or `text` if there
/// is no id. A label is the name of one of `outcomes`, or `yes` or `no`: whether it is the act. Rows without a label
/// are skipped, and other columns are ignored.
///
/// # Errors
/// With the file and the line: no such file or column, an unknown label, two labels for one text, no label at all.
pub fn of_file(path: &Path, outcomes: &[(&str, bool)]) -> Result<Vec<Label>> {
    let read = || read(&fs_err::read_to_string(path)?, outcomes);
    read().with_context(|| format!("read labels from {}", path.display()))
}

fn read(text: &str, outcomes: &[(&str, bool)]) -> Result<Vec<Label>> {
    let text = text.trim_start_matches('\u{feff}');
    let separator = if text.lines().next().unwrap_or_default().contains('\t') { b'\t' } else { b',' };
    let mut reader = csv::ReaderBuilder::new().delimiter(separator).from_reader(text.as_bytes());
    let header: Vec<String> = reader.headers()?.iter().map(|name| name.trim().to_lowercase()).collect();
    let column = |name: &str| header.iter().position(|column| column == name);
    let there = || header.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let at = column("label").with_context(|| format!("no column `label`; there are {}", there()))?;
    let (id, own) = (column("sample_id"), column("text"));
    ensure!(id.or(own).is_some(), "no column `sample_id` or `text`; there are {}", there());
    let act = |label: &str| match label.to_lowercase().as_str() {
        "yes" | "true" | "act" => Some(true),
        "no" | "false" => Some(false),
        _ => None,
    };
    let mut labels: Vec<Label> = Vec::new();
    let mut seen: HashMap<Of, bool> = HashMap::new();
    for record in reader.records() {
        let record = record?;
        let line = record.position().map_or(0, |place| place.line());
        let label = record[at].trim();
        if label.is_empty() {
            continue;
        }
        let named = outcomes.iter().find(|(name, _)| name.eq_ignore_ascii_case(label));
        let Some(act) = named.map(|(_, act)| *act).or_else(|| act(label)) else {
            let known: Vec<&str> = outcomes.iter().map(|(name, _)| *name).collect();
            bail!(
                "line {line}: the label `{label}` is neither `yes` nor `no` nor an outcome ({})",
                known.join(", ")
            );
        };
        let named = id.map(|at| record[at].trim()).filter(|id| !id.is_empty());
        let of = match (named, own) {
            (Some(id), _) => Of::SampleId(id.to_string()),
            (None, Some(at)) if !record[at].trim().is_empty() => Of::Text(record[at].trim().to_string()),
            _ => bail!("line {line}: a label of no text"),
        };
        match seen.insert(of.clone(), act) {
            Some(before) => ensure!(before == act, "line {line}: another label of a text that has one"),
            None => labels.push(Label { of, act }),
        }
    }
    ensure!(!labels.is_empty(), "no row has a label");
    Ok(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTCOMES: [(&str, bool); 3] = [("threatens", true), ("no", true), ("reports", false)];

    #[test]
    fn labels_are_read_as_tables_of_samples_have_them() {
        let text = "steered,sample_id,text,Label\nangry,ab12,\"Well, I\nsee.\",Threatens\n,, So. ,reports\ncalm,cd34,x,\ncalm,ef56,y,yes\ncalm,ef56,y,yes\n";
        let found = read(text, &OUTCOMES).unwrap();
        let label = |of, act| Label { of, act };
        let wanted = [
            label(Of::SampleId("ab12".into()), true),
            label(Of::Text("So.".into()), false),
            label(Of::SampleId("ef56".into()), true),
        ];
        assert_eq!(found, wanted);
        // The name of an outcome takes precedence over the word.
        assert!(read("text\tlabel\na\tno\n", &OUTCOMES).unwrap()[0].act);
        assert!(!read("text\tlabel\na\tno\n", &OUTCOMES[..1]).unwrap()[0].act);
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        let check = |text: &str, wanted: &str| {
            let error = format!("{:#}", read(text, &OUTCOMES).unwrap_err());
            assert!(error.contains(wanted), "{error}");
        };
        check("sample_id,outcome\na,b\n", "no column `label`; there are `sample_id`, `outcome`");
        check("id,label\na,yes\n", "no column `sample_id` or `text`; there are `id`, `label`");
        check(
            "sample_id,label\na,yes\nb,maybe\n",
            "line 3: the label `maybe` is neither `yes` nor `no` nor an outcome (threatens, ",
        );
        check("sample_id,label\na,yes\na,reports\n", "line 3: another label of a text that has one");
        check("sample_id,label\n,yes\n", "line 2: a label of no text");
        check("sample_id,label\na,\n", "no row has a label");
    }
}
