//! Exports a trial of the playground as a runnable experiment file: the original file with a single analysis, which
//! generates the same three texts, in place of all others. Cached results are reused.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::catalogue::{Direction, Ready};
use super::play::{Said, Trial};
use super::refusal::Refusal;
use crate::config::Experiment;
use crate::lm::Layer;
use crate::lm::layer::EMBED;
use crate::params::tree::{self, Node};
use crate::slurm;

/// TOML tables that are omitted.
const OTHERS: [&str; 2] = ["analysis", "criteria"];
/// Default name of the analysis.
const NAME: &str = "tried";
/// Maximum number of tokens that `steering` generates.
const LONGEST: usize = 1000;

/// The exported file, with information for the user.
#[derive(Serialize)]
pub struct Copied {
    /// Suggested file name.
    pub file: String,
    pub toml: String,
    /// Command that runs it.
    pub command: String,
    /// Differences from the trial.
    pub notes: Vec<String>,
}

/// The trial as an experiment file.
///
/// # Errors
/// The trial cannot be expressed in a file, or the file would be invalid.
pub fn copied(ready: &Ready, trial: &Trial) -> Result<Copied, Refusal> {
    let experiment = &ready.resolved.experiment;
    if trial.steer.strength == 0.0 || matches!(trial.steer.direction, Direction::Random(_)) {
        return Err(Refusal::of("strength", "there is no steering: move the slider away from 0 first"));
    }
    let name = format!("{}-tried", experiment.name);
    let file = format!("{name}.toml");
    let mut notes = Vec::new();
    let texts = [without(&experiment.text), Some(experiment.text.clone())];
    let mut why = String::new();
    for (number, text) in texts.into_iter().enumerate() {
        let Some(text) = text.and_then(|text| named(&text, &name)) else { continue };
        let analysis = analysis(&text);
        let set = &trial.steer.set;
        let mut only = format!(
            "stage:{analysis},model:{},source:{}",
            ready.resolved.models[set.model].name, set.stories
        );
        if !set.variant.is_empty() {
            only.push_str(
                &set.variant.split(", ").map(|setting| format!(",variant:{setting}")).collect::<String>(),
            );
        }
        let sets: String =
            experiment.sets.iter().map(|set| format!(" --set {}", slurm::quoted(set))).collect();
        let command = format!("emoflow run {}{sets} --only {}", slurm::quoted(&file), slurm::quoted(&only));
        let command = if number == 0 && ready.sets().len() == 1 {
            format!("emoflow run {}{sets}", slurm::quoted(&file))
        } else {
            command
        };
        let table = table(trial, &analysis, &mut notes)?;
        let toml = format!(
            "# From the playground of `emoflow serve`. To reproduce the texts, in the folder of the experiment's \
             file:\n# {command}\n{}\n\n{table}",
            text.trim_end()
        );
        let place = experiment.file.parent().map_or_else(PathBuf::new, Path::to_path_buf).join(&file);
        match Experiment::parse_with(&place, &experiment.root, &toml, &experiment.sets) {
            Ok(_) => return Ok(Copied { file, toml, command, notes }),
            Err(problems) => why = problems.to_string(),
        }
        notes.clear();
    }
    Err(Refusal::bad(format!("this cannot be expressed in an experiment file: {why}")))
}

/// The TOML table of the analysis that reproduces the trial.
fn table(trial: &Trial, name: &str, notes: &mut Vec<String>) -> Result<String, Refusal> {
    let (steer, sampling) = (&trial.steer, &trial.sampling);
    let layers: Vec<String> = steer
        .layers
        .iter()
        .map(|layer| match layer {
            Layer::Embed => text(EMBED),
            Layer::Block(block) => block.to_string(),
        })
        .collect();
    let layers = layers.join(", ");
    let positions =
        serde_json::to_value(steer.positions).map(|word| word.as_str().unwrap_or("all").to_string());
    let positions = positions.unwrap_or_else(|_| "all".into());
    if sampling.max_new_tokens == 0 {
        return Err(Refusal::of("max_new_tokens", "no tokens are generated: set their number first"));
    }
    let strength = number(steer.strength);
    match &trial.said {
        Said::Plain(prompt) => {
            if sampling.temperature > 0.0 {
                notes.push(
                    "a declared `steering` decodes greedily: its texts are those of temperature 0".into(),
                );
            }
            if sampling.max_new_tokens > LONGEST {
                notes.push(format!("a declared `steering` generates at most {LONGEST} tokens"));
            }
            let prompt = text(prompt);
            let write = sampling.max_new_tokens.min(LONGEST);
            Ok(format!(
                "[analysis.{name}.steering]         # every emotion's vector, and a random direction of the same norm\n\
                 prompts = [{prompt}]\nstrength = [{strength}]\nunit = \"resid_norm\"\nlayers = [{layers}]\ntogether = true\n\
                 positions = \"{positions}\"\nrandom = 1\npermuted = 0\nwrite = {write}\n"
            ))
        }
        Said::Chat { system, turns, .. } => {
            let case = trial.case().map_or_else(String::new, |case| text(&case.name));
            let turns = turns.iter().map(|turn| text(turn)).collect::<Vec<_>>().join(", ");
            let system =
                if system.is_empty() { String::new() } else { format!("system = {}, ", text(system)) };
            Ok(format!(
                "[analysis.{name}.scenario]\n\
                 set = {{ about = \"Tried in the playground.\", {system}cases = [{{ name = {case}, turns = [{turns}] }}], \
                 outcomes = [{{ name = \"any text\" }}] }}\n\
                 evidence = \"pattern\"\nemotions = [{}]\nstrength = [{strength}]\nlayers = [{layers}]\npositions = \"{positions}\"\n\
                 random = 1\nsamples = 1\nmax_new_tokens = {}\ntemperature = {}\ntop_p = {}\n",
                text(steer.emotion()),
                sampling.max_new_tokens,
                number(sampling.temperature),
                number(sampling.top_p),
            ))
        }
    }
}

/// A TOML string. JSON's notation is valid TOML except for one character.
fn text(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// A TOML float: with a point or an exponent.
fn number(x: f64) -> String {
    format!("{x:?}")
}

/// A name that no analysis of the file has yet.
fn analysis(file: &str) -> String {
    let known = parsed(file).and_then(|tree| tree.find(&["analysis"]).cloned());
    let taken = |name: &str| {
        known.as_ref().is_some_and(|known| known.entries().iter().any(|entry| entry.key == name))
    };
    let more = (2..).map(|number| format!("{NAME}-{number}"));
    std::iter::once(NAME.to_string()).chain(more).find(|name| !taken(name)).unwrap_or_default()
}

fn parsed(file: &str) -> Option<Node> {
    let sink = tree::Sink::default();
    tree::parse(file, &sink).filter(|_| sink.borrow().is_empty())
}

/// The file under another name.
fn named(file: &str, name: &str) -> Option<String> {
    let tree = parsed(file)?;
    let mut file = file.to_string();
    if let Some(own) = tree.find(&["name"]) {
        file.replace_range(own.span.clone(), &text(name));
    }
    Some(file)
}

/// The file without its analyses and the tables that depend on them; `None` if they cannot be separated line by line.
fn without(file: &str) -> Option<String> {
    let mut kept = String::new();
    let mut inside = false;
    for line in file.split_inclusive('\n') {
        let header = line.trim_start();
        if header.starts_with('[') {
            let first = header.trim_start_matches('[').split(['.', ']']).next().unwrap_or_default().trim();
            inside = OTHERS.contains(&first);
        }
        if !inside {
            kept.push_str(line);
        }
    }
    let mut wanted = parsed(file)?;
    OTHERS.iter().for_each(|table| drop(wanted.take(table)));
    (parsed(&kept)? == wanted).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn analyses_are_taken_out_and_nothing_else() {
        let file = "name = \"a\"\n[models.m]\npath = \"p\"\n[analysis.x.pca]\n[ analysis.y.scenario ]\nset = \"s\"\n\
                    [emotions]\nwords = [\n  \"a\",\n]\n[criteria.c]\nclaim = \"x/y\"\n";
        let kept = without(file).unwrap();
        assert_eq!(kept, "name = \"a\"\n[models.m]\npath = \"p\"\n[emotions]\nwords = [\n  \"a\",\n]\n");
        assert_eq!(analysis(file), "tried");
        assert_eq!(analysis("[analysis.tried.pca]\n[analysis.tried-2.pca]"), "tried-3");
        // A line of a string that looks like a header.
        assert_eq!(without("a = \"\"\"\n[analysis.x]\n\"\"\"\nb = 1\n"), None);
        assert_eq!(without("analysis.x.pca = {}\n"), None);
        assert_eq!(named(file, "b").unwrap().lines().next(), Some("name = \"b\""));
        assert_eq!(text("a\"\\\n\u{7f}é"), "\"a\\\"\\\\\\n\\u007Fé\"");
        assert_eq!((number(1.0), number(0.05), number(1e-7)), ("1.0".into(), "0.05".into(), "1e-7".into()));
    }
}
