//! `emoflow export`: writes cached vectors in the formats of other tools. Computes nothing.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;

use super::{Access, ExperimentArgs, Limit, MachineArgs, Prepared, Usage, prepare};
use crate::config::problem::suggestion;
use crate::exchange::{Directions, Emotion, Format, Unit};
use crate::execute::provenance;
use crate::lm::{Layer, family};
use crate::plan::{Node, Set, Work};
use crate::progress::{self, Style};
use crate::resolve::Resolved;
use crate::slurm::quoted;
use crate::stages::analysis::{LayerVectors, VectorSet};
use crate::store::{Lookup, Store};

#[derive(Args)]
pub struct ExportArgs {
    #[command(flatten)]
    experiment: ExperimentArgs,
    /// The format: `gguf` for llama.cpp and repeng, `safetensors`, or `npz` for NumPy
    #[arg(long, value_enum)]
    format: Format,
    /// Only vectors of this model; several separated by commas
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    model: Vec<String>,
    /// Only vectors of this source of stories; several separated by commas
    #[arg(long = "stories", value_name = "NAME", value_delimiter = ',')]
    source: Vec<String>,
    /// Only these variants of a sweep, as in `from_token=50`; several separated by commas, all of which must hold
    #[arg(long, value_name = "AXIS=VALUE", value_delimiter = ',')]
    variant: Vec<String>,
    /// Only these emotions, separated by commas
    #[arg(long, value_name = "WORDS", value_delimiter = ',')]
    emotions: Vec<String>,
    /// Only these layers, as in `10,14` or `8-12`: blocks from 0, and `embed`
    #[arg(long, value_name = "LAYERS")]
    layers: Option<String>,
    /// What a strength of 1 adds
    #[arg(long, value_enum, default_value_t = Unit::Vector)]
    unit: Unit,
    /// The output folder [default: `export/` of the results]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    #[command(flatten)]
    machine: MachineArgs,
    #[command(flatten)]
    limit: Limit,
}

/// Writes the files and prints their paths.
pub fn run(args: &ExportArgs, out: &mut dyn Write) -> Result<u8> {
    let progress = progress::start(Style::Auto);
    let prepared = prepare(&args.experiment, &args.machine, &args.limit, Access::Look, &*progress)?;
    prepared.say(&*progress);
    let Prepared { resolved, plan, store, results, .. } = &prepared;
    let sets: Vec<(&Node, &Set)> = plan.nodes.iter().filter_map(vectors).collect();
    let chosen = chosen(args, &sets)?;
    known("emotion", &args.emotions, resolved.experiment.emotions.iter().map(String::as_str))?;
    let layers = chosen.iter().map(|(node, _)| wanted(args, node)).collect::<Result<Vec<_>>>()?;
    let missing = chosen.iter().zip(&layers).filter(|((node, _), layers)| {
        let of = node.units.iter().filter(|unit| unit.layer.is_some_and(|layer| layers.contains(&layer)));
        of.into_iter().any(|unit| !store.contains(node.work.stage(), &unit.key))
    });
    let missing: Vec<String> = missing.map(|((node, _), _)| node.name()).collect();
    if !missing.is_empty() {
        let only: String = missing.iter().map(|name| format!(" --only {}", quoted(name))).collect();
        bail!(
            "not in the cache `{}`: {}. To compute them: emoflow run {}{only}",
            store.root().display(),
            missing.join(", "),
            quoted(&args.experiment.file.to_string_lossy())
        );
    }
    let folder = args.out.clone().unwrap_or_else(|| results.join("export"));
    for ((node, set), layers) in chosen.iter().zip(&layers) {
        let directions = directions(args, resolved, store, (node, set), layers)?.scaled(args.unit)?;
        let variant: String = set.axes.iter().map(|(axis, value)| format!("~{axis}={value}")).collect();
        let stem = folder.join(&set.model).join(format!("{}{variant}", set.stories));
        for path in directions.write(args.format, &stem)? {
            writeln!(out, "{}", path.display())?;
        }
    }
    Ok(0)
}

/// The node and its set, if it is a node of vectors.
fn vectors(node: &Node) -> Option<(&Node, &Set)> {
    match &node.work {
        Work::Vectors { set, .. } => Some((node, set)),
        _ => None,
    }
}

/// The selected sets.
fn chosen<'a>(args: &ExportArgs, sets: &[(&'a Node, &'a Set)]) -> Result<Vec<(&'a Node, &'a Set)>> {
    known("model", &args.model, sets.iter().map(|(_, set)| set.model.as_str()))?;
    known("source of stories", &args.source, sets.iter().map(|(_, set)| set.stories.as_str()))?;
    let settings =
        |set: &Set| set.axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect::<Vec<_>>();
    let all: Vec<String> = sets.iter().flat_map(|(_, set)| settings(set)).collect();
    known("setting of the sweep", &args.variant, all.iter().map(String::as_str))?;
    let named = |names: &[String], name: &String| names.is_empty() || names.contains(name);
    let chosen = sets.iter().copied().filter(|(_, set)| {
        let here = settings(set);
        named(&args.model, &set.model)
            && named(&args.source, &set.stories)
            && args.variant.iter().all(|wanted| here.contains(wanted))
    });
    let chosen: Vec<_> = chosen.collect();
    match chosen.is_empty() {
        true => Err(Usage("no set of vectors is of that model, source and variant".into()).into()),
        false => Ok(chosen),
    }
}

/// An error if one of the requested names does not exist.
fn known<'a>(what: &str, asked: &[String], there: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut there: Vec<&str> = there.collect();
    there.dedup();
    match asked.iter().find(|name| !there.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) if there.is_empty() => {
            Err(Usage(format!("there is no {what} `{name}`: there is none")).into())
        }
        Some(name) => {
            let hint = suggestion(name, "there are", there.iter().copied());
            Err(Usage(format!("there is no {what} `{name}`; {hint}")).into())
        }
    }
}

/// The selected layers of a set.
fn wanted(args: &ExportArgs, node: &Node) -> Result<Vec<Layer>> {
    let kept: Vec<Layer> = node.units.iter().filter_map(|unit| unit.layer).collect();
    let shown = |layers: &[Layer]| layers.iter().map(Layer::to_string).collect::<Vec<_>>().join(", ");
    let mut layers = match &args.layers {
        None => kept.clone(),
        Some(text) => {
            let asked = listed(text)?;
            if let Some(layer) = asked.iter().find(|layer| !kept.contains(layer)) {
                let (name, kept) = (node.name(), shown(&kept));
                return Err(Usage(format!("{name} has no layer {layer}; kept layers: {kept}")).into());
            }
            asked
        }
    };
    if args.format == Format::Gguf {
        let lost = Directions::not_for_gguf(&layers);
        layers.retain(|layer| !lost.contains(layer));
        let why = "llama.cpp adds control vectors from block 1 on, and refuses a file with `direction.0`";
        if layers.is_empty() || args.layers.is_some() && !lost.is_empty() {
            let hint = "ask for later layers, or for --format safetensors";
            return Err(Usage(format!("GGUF cannot hold layer {}: {why}; {hint}", shown(&lost))).into());
        }
        if !lost.is_empty() {
            say!("{}: layer {} is not in the GGUF files: {why}", node.name(), shown(&lost));
        }
        if layers.len() > 1 {
            say!(
                "{}: each GGUF file has {} layers ({}), and llama.cpp adds to all of them at once; --layers takes fewer",
                node.name(),
                layers.len(),
                shown(&layers)
            );
        }
    }
    Ok(layers)
}

/// `10,14`, `8-12`, `embed`.
fn listed(text: &str) -> Result<Vec<Layer>> {
    let wrong = |part: &str| Usage(format!("`{part}` is not a layer: write --layers 10,14 or --layers 8-12"));
    let mut layers = Vec::new();
    for part in text.split(',').map(str::trim) {
        let block = |text: &str| text.trim().parse::<usize>().map_err(|_| wrong(part));
        match part.split_once('-') {
            _ if part == Layer::Embed.to_string() => layers.push(Layer::Embed),
            Some((first, last)) => {
                let (first, last) = (block(first)?, block(last)?);
                // No model has more blocks; a larger range is a typing error.
                if first > last || last > 10_000 {
                    return Err(wrong(part).into());
                }
                layers.extend((first..=last).map(Layer::Block));
            }
            None => layers.push(Layer::Block(block(part)?)),
        }
    }
    layers.sort();
    layers.dedup();
    Ok(layers)
}

/// The vectors of a set at `layers`, all of which are in the store.
fn directions(
    args: &ExportArgs,
    resolved: &Resolved,
    store: &Store,
    (node, set): (&Node, &Set),
    layers: &[Layer],
) -> Result<Directions> {
    let units = node.units.iter().filter(|unit| unit.layer.is_some_and(|layer| layers.contains(&layer)));
    let units: Vec<_> = units.collect();
    let tables = units.iter().map(|unit| match store.lookup(node.work.stage(), &unit.key)? {
        Lookup::Hit(entry) => entry.read("vectors"),
        Lookup::Miss(_) => bail!("{} is not in the cache any more", node.name()),
    });
    let tables = tables.collect::<Result<Vec<_>>>()?;
    let vectors = VectorSet::from_tables(&set.model, &set.stories, set.n_layers, &tables)?;
    let first = vectors.layers.first().context("vectors of no layer")?;
    let wanted = |name: &&String| args.emotions.is_empty() || args.emotions.contains(name);
    let emotions = first.emotions.iter().filter(wanted).map(|name| {
        let of = |layer: &LayerVectors| {
            let at = layer.emotions.iter().position(|emotion| emotion == name);
            let at = at.with_context(|| format!("`{name}` has no vector at layer {}", layer.layer))?;
            let row = &layer.vectors[at * layer.d_model..(at + 1) * layer.d_model];
            Ok(row.iter().map(|&x| x as f32).collect::<Vec<f32>>())
        };
        let rows = vectors.layers.iter().map(of).collect::<Result<Vec<_>>>()?;
        Ok(Emotion { name: name.clone(), values: rows.concat() })
    });
    let emotions = emotions.collect::<Result<Vec<_>>>()?;
    let model =
        resolved.models.iter().find(|model| model.name == set.model).context("a model of the plan")?;
    let keys = units.iter().map(|unit| unit.key.to_string()).collect::<Vec<_>>().join(",");
    let said = [
        ("emoflow.stories", set.stories.clone()),
        ("emoflow.variant", set.variant()),
        ("emoflow.n_layers", set.n_layers.to_string()),
        ("emoflow.key", keys),
        ("emoflow.strength", strength(args.unit).to_string()),
        ("emoflow.version", env!("CARGO_PKG_VERSION").to_string()),
    ];
    let said = said.map(|(key, value)| (key.to_string(), value));
    // A GGUF file has no `config.json`.
    let config = model.checkpoint.read_config()?;
    let model_type = config["model_type"].as_str().or(family::model_type(&model.spec.architecture));
    Ok(Directions {
        layers: vectors.layers.iter().map(|layer| layer.layer).collect(),
        d_model: first.d_model,
        resid_norm: vectors.layers.iter().map(|layer| layer.resid_norm as f32).collect(),
        emotions,
        model_type: model_type.unwrap_or("unknown").to_string(),
        provenance: provenance(model)
            .into_iter()
            .chain(said)
            .filter(|(_, value)| !value.is_empty())
            .collect(),
    })
}

/// What a strength of 1 adds, as text.
fn strength(unit: Unit) -> &'static str {
    match unit {
        Unit::Vector => {
            "1 adds the vector as it is to the residual stream after the block, at every position (steering's unit \
             `vector`); emoflow.strength_1 says how much that is in mean norms of tokens' residuals (emoflow.resid_norm)"
        }
        Unit::ResidNorm => {
            "1 adds the mean norm of tokens' residuals (emoflow.resid_norm) in the vector's direction to the residual \
             stream after the block, at every position (steering's unit `resid_norm`)"
        }
    }
}
