//! `emoflow cache ls`: the cached entries, their cost and the experiments that use them. Writes nothing.

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Result;
use serde::Serialize;
use serde_json::Value;

use super::{shown_bytes, shown_seconds};
use crate::plan::key::Key;
use crate::results::runs::Past;
use crate::store::Store;

#[derive(Serialize)]
struct Listing {
    entries: Vec<Listed>,
    stages: BTreeMap<String, Total>,
    total: Total,
}

#[derive(Serialize)]
struct Listed {
    stage: String,
    key: Key,
    /// Of all its tables together.
    rows: u64,
    bytes: u64,
    /// Seconds since 1970.
    created: u64,
    /// The time it took to compute.
    seconds: f64,
    /// Taken from its pre-image, in readable form.
    what: String,
    /// Experiments whose last run used it.
    used_by: Vec<String>,
    damaged: bool,
}

#[derive(Clone, Default, Serialize)]
struct Total {
    entries: usize,
    bytes: u64,
    seconds: f64,
}

impl Total {
    fn add(&mut self, entry: &Listed) {
        self.entries += 1;
        self.bytes += entry.bytes;
        self.seconds += entry.seconds;
    }
}

/// Lists the entries, those of one stage if `stage` is given. Exit code 4 if there is no such stage.
pub fn run(store: &Store, past: &[Past], stage: Option<&str>, json: bool, out: &mut dyn Write) -> Result<u8> {
    let mut users: HashMap<Key, Vec<String>> = HashMap::new();
    for experiment in past {
        for key in experiment.last.keys() {
            let names = users.entry(*key).or_default();
            if names.last() != Some(&experiment.name) {
                names.push(experiment.name.clone());
            }
        }
    }
    let mut places = store.contents()?.entries;
    if let Some(stage) = stage {
        let mut stages: Vec<String> = places.iter().map(|place| place.stage.clone()).collect();
        stages.dedup();
        if !stages.iter().any(|there| there == stage) {
            say!("error: the cache has no stage `{stage}`; it has: {}", stages.join(", "));
            return Ok(4);
        }
        places.retain(|place| place.stage == stage);
    }
    let mut listing = Listing { entries: Vec::new(), stages: BTreeMap::new(), total: Total::default() };
    for place in places {
        let manifest = store.manifest(&place.stage, &place.key);
        let damaged = manifest.is_none();
        let (rows, bytes) = manifest
            .iter()
            .flat_map(|m| &m.files)
            .fold((0, 0), |(rows, bytes), file| (rows + file.rows, bytes + file.bytes));
        let entry = Listed {
            rows,
            bytes,
            created: manifest.as_ref().map_or(0, |m| m.created),
            seconds: manifest.as_ref().map_or(0.0, |m| m.cost.seconds),
            what: manifest.map_or("damaged".to_string(), |m| what(&m.preimage)),
            used_by: users.get(&place.key).cloned().unwrap_or_default(),
            damaged,
            stage: place.stage,
            key: place.key,
        };
        listing.stages.entry(entry.stage.clone()).or_default().add(&entry);
        listing.total.add(&entry);
        listing.entries.push(entry);
    }
    if json {
        writeln!(out, "{}", serde_json::to_string_pretty(&listing)?)?;
    } else {
        print(&listing, out)?;
    }
    Ok(0)
}

fn print(listing: &Listing, out: &mut dyn Write) -> Result<()> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if !listing.entries.is_empty() {
        let head = ["stage", "key", "rows", "bytes", "age", "cost"];
        let [stage, key, rows, bytes, age, cost] = head;
        writeln!(out, "{stage:<12} {key:<10} {rows:>8} {bytes:>7} {age:>8} {cost:>8}  what; used by")?;
    }
    for Listed { stage, key, rows, bytes, created, seconds, what, used_by, .. } in &listing.entries {
        let age = shown_seconds(now.saturating_sub(*created) as f64);
        let (key, bytes, cost) = (key.short(), shown_bytes(*bytes), shown_seconds(*seconds));
        let users = if used_by.is_empty() { "no last run".to_string() } else { used_by.join(", ") };
        writeln!(out, "{stage:<12} {key:<10} {rows:>8} {bytes:>7} {age:>8} {cost:>8}  {what}; {users}")?;
    }
    let line = |name: &str, total: &Total| {
        let (bytes, cost) = (shown_bytes(total.bytes), shown_seconds(total.seconds));
        format!("{name}: {} entries, {bytes}, {cost} to compute", total.entries)
    };
    for (stage, total) in &listing.stages {
        writeln!(out, "{}", line(stage, total))?;
    }
    writeln!(out, "{}", line("total", &listing.total))?;
    Ok(())
}

/// A short description of an entry, from its pre-image.
fn what(preimage: &str) -> String {
    let Ok(preimage) = serde_json::from_str::<Value>(preimage) else { return String::new() };
    let params = &preimage["params"];
    let mut words = Vec::new();
    if let Some((_, kind)) = preimage["stage"].as_str().and_then(|stage| stage.split_once('/')) {
        words.push(kind.to_string());
    }
    if let Some(model) = preimage["model"].as_str() {
        words.push(format!("model {}", model.get(..10).unwrap_or(model)));
    }
    if let Some(layer) = params["layer"].as_u64() {
        words.push(format!("layer {layer}"));
    }
    match params["layers"].as_array().map(Vec::as_slice) {
        Some([one]) => words.push(format!("layer {one}")),
        Some(several) => words.push(format!("{} layers", several.len())),
        None => {}
    }
    let stories = params["stories"].as_array().map(|list| list.len() as u64);
    words.extend(stories.or(params["count"].as_u64()).map(|n| format!("{n} stories")));
    let mut roles: Vec<(&str, usize)> = Vec::new();
    for role in preimage["inputs"].as_array().into_iter().flatten().filter_map(|input| input[0].as_str()) {
        match roles.iter_mut().find(|(name, _)| *name == role) {
            Some((_, n)) => *n += 1,
            None => roles.push((role, 1)),
        }
    }
    if !roles.is_empty() {
        let roles: Vec<String> = roles.iter().map(|(role, n)| format!("{n} {role}")).collect();
        words.push(format!("from {}", roles.join(" and ")));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::what;

    #[test]
    fn an_entry_is_described_by_its_pre_image() {
        let model = "5f931b5b767454964442e8c3a458c8e807dd82d2bc12fc19b3d66e37db71357e";
        let generate = format!(
            r#"{{"stage":"stories/generate","params":{{"stories":[1,2,3]}},"inputs":[],"model":"{model}"}}"#
        );
        assert_eq!(what(&generate), "generate, model 5f931b5b76, 3 stories");
        let vectors = r#"{"stage":"vectors","params":{},"inputs":[["activations","a"],["activations","b"],["neutral","c"]],"model":null}"#;
        assert_eq!(what(vectors), "from 2 activations and 1 neutral");
        let pca = r#"{"stage":"pca","params":{"layers":[1,4]},"inputs":[["vectors","a"]],"model":null}"#;
        assert_eq!(what(pca), "2 layers, from 1 vectors");
    }
}
