//! `emoflow diff`: the differences between two runs in parameters, inputs and claims.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use serde::Serialize;
use serde_json::{Value, json};

use super::Usage;
use super::show::{self, number};
use crate::explain::{Difference, differences};
use crate::record::{self, Run};

/// The parts of `run.json` that are compared: everything that can change results.
const COMPARED: [&str; 6] = ["experiment", "models", "datasets", "served", "device", "versions"];
/// Keys of the experiment that only give its location.
const PLACES: [&str; 3] = ["file", "root", "sets"];

/// One run, as read from its folder.
struct Side {
    run: Value,
    /// The estimate, the two ends of the interval and the p-value of each claim, by a description of the claim.
    claims: BTreeMap<String, [String; 4]>,
}

impl Side {
    /// `path`: a results folder, or the `run.json` in it.
    fn read(path: &Path) -> Result<Side> {
        let file = if path.is_dir() { path.join(record::FILE) } else { path.to_path_buf() };
        let Some(run) = Run::read_file(&file)? else {
            let message =
                format!("`{}` contains no run: name a results folder, or its run.json", path.display());
            return Err(Usage(message).into());
        };
        let mut run = serde_json::to_value(&run)?;
        if let Some(experiment) = run["experiment"].as_object_mut() {
            PLACES.iter().for_each(|place| drop(experiment.remove(*place)));
        }
        let table = file.with_file_name("tables").join("claims.csv");
        let rows = if table.is_file() { show::read_claims(&table)? } else { Vec::new() };
        let claims = rows.into_iter().map(|row| {
            let about = ["model", "stories", "variant", "other"].map(|key| row[key].as_str());
            let about = about.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ");
            let claim = format!("{}/{} ({about}, layer {})", row["analysis"], row["claim"], row["layer"]);
            (claim, ["estimate", "low", "high", "p"].map(|key| row[key].clone()))
        });
        Ok(Side { claims: claims.collect(), run })
    }
}

/// A claim that differs between the runs.
#[derive(Serialize)]
struct Changed {
    claim: String,
    /// Estimate, low, high and p; `None`: no such claim.
    before: Option<[String; 4]>,
    after: Option<[String; 4]>,
}

/// Prints the differences; returns 1 if there are any.
///
/// # Errors
/// A path contains no run.
pub fn run(paths: [&PathBuf; 2], as_json: bool, out: &mut dyn Write) -> Result<u8> {
    let [before, after] = [Side::read(paths[0])?, Side::read(paths[1])?];
    let fields: Vec<Difference> =
        COMPARED.iter().flat_map(|part| differences(part, &before.run[*part], &after.run[*part])).collect();
    let names: std::collections::BTreeSet<&String> =
        before.claims.keys().chain(after.claims.keys()).collect();
    let claims = names.into_iter().filter_map(|claim| {
        let sides = [before.claims.get(claim), after.claims.get(claim)];
        (sides[0] != sides[1]).then(|| Changed {
            claim: claim.clone(),
            before: sides[0].cloned(),
            after: sides[1].cloned(),
        })
    });
    let claims: Vec<Changed> = claims.collect();
    let same = before.claims.len() - claims.iter().filter(|claim| claim.before.is_some()).count();
    if as_json {
        writeln!(out, "{}", serde_json::to_string_pretty(&json!({ "fields": fields, "claims": claims }))?)?;
    } else {
        for field in &fields {
            writeln!(out, "{field}")?;
        }
        for Changed { claim, before, after } in &claims {
            writeln!(out, "{claim}: {} -> {}", shown(before), shown(after))?;
        }
        writeln!(
            out,
            "{} fields differ; {} claims differ, {same} are identical to the last digit",
            fields.len(),
            claims.len()
        )?;
    }
    Ok(u8::from(!(fields.is_empty() && claims.is_empty())))
}

fn shown(side: &Option<[String; 4]>) -> String {
    let Some([estimate, low, high, p]) = side else { return "not claimed".to_string() };
    let mut text = number(estimate);
    if !low.is_empty() && !high.is_empty() {
        text.push_str(&format!(" [{}, {}]", number(low), number(high)));
    }
    if !p.is_empty() {
        text.push_str(&format!(" (p = {})", number(p)));
    }
    text
}
