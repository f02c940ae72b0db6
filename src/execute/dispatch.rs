//! Executes one node: reads its inputs from the store, calls the stage and commits the results. Handles every kind of
//! work; independent of the order of nodes and of which are needed.

mod ahead;
mod checks;
mod inputs;
mod scores;
mod unchanged;

use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use rayon::prelude::*;

use ahead::Ahead;
pub use checks::NOT_CHECKED;
use checks::Passing;
pub use inputs::input;
use inputs::{inputs, last_input, of_stage, stored};
pub use scores::NOT_JUDGED_OFFLINE;
use scores::{case_of, server_of};
use unchanged::ensure_unchanged;

use super::kept::{Around, Kept};
use super::writer::{Stored, Writer};
use super::{across, texts};
use crate::lm::free_memory::FreeMemory;
use crate::lm::memory::{self, Work as Memory};
use crate::lm::{LanguageModel, Layer, heap};
use crate::plan::{Node, Plan, Unit, Work};
use crate::progress::Progress;
use crate::resolve::{self, AnotherModel, Changed, Model, Resolved};
use crate::stages::analysis::{Activations, Input, Reads, Rollouts, Spans, VectorSet};
use crate::stages::batches::Batches as _;
use crate::stages::stories::served::{self, Client};
use crate::stages::stories::{REJECTED, generate, template, writing};
use crate::stages::texts::file::BROKEN;
use crate::stages::vectors::imported;
use crate::stages::{activations, readings, rollouts, spans, texts as transcripts, vectors};
use crate::store::table::Table;
use crate::store::{Cost, Lease, Lookup, Store};

/// The sequence of work on a device, with at most one model loaded at a time.
pub struct Lane<'a> {
    resolved: &'a Resolved,
    /// Receives a message for each model that is loaded.
    told: Option<&'a dyn Progress>,
    loaded: Option<Loaded>,
    /// The client of the server that was queried last.
    client: Option<Client>,
    ahead: Option<Ahead>,
}

/// A loaded model of the resolved experiment, with its index.
struct Loaded {
    index: usize,
    model: LanguageModel,
    /// Free memory before it was loaded.
    free: Option<FreeMemory>,
}

/// Why a server generates no texts in offline mode.
pub const NOT_OFFLINE: &str = "it is written at a server, and --offline opens no socket";

/// Tables of one unit, with their names.
pub type Tables = Vec<(String, Table)>;

impl<'a> Lane<'a> {
    /// A lane on the resolved device, with no model loaded. `told` receives a message for each model that is loaded.
    pub fn new(resolved: &'a Resolved, told: Option<&'a dyn Progress>) -> Lane<'a> {
        Lane { resolved, told, loaded: None, client: None, ahead: None }
    }

    /// Computes `group`, units of `node` that belong together, and queues their commit with `writer`, holding `leases`
    /// until then. `next` is the unit that is likely to follow. Returns [`Interrupted`] if it is stopped between two
    /// batches; the batches before are kept.
    ///
    /// [`Interrupted`]: crate::interrupt::Interrupted
    #[allow(clippy::too_many_arguments)]
    pub fn run<'s>(
        &mut self,
        plan: &Plan,
        store: &'s Store,
        node: &'s Node,
        group: Vec<usize>,
        next: Option<&Unit>,
        leases: Vec<Lease>,
        around: Around<'_>,
        writer: &Writer<'s>,
    ) -> Result<()> {
        let begun = Instant::now();
        let units: Vec<&Unit> = group.iter().map(|&u| &node.units[u]).collect();
        let stage = node.work.stage();
        let last = units.last().context("a group of units")?;
        // On the CPU, which does both the writing and the computing, writing in the background gains nothing.
        let on_gpu = self.resolved.device.kind() != "cpu";
        let behind = on_gpu && matches!(node.work, Work::Activations { .. });
        let resolved = self.resolved;
        let unchanged = || ensure_unchanged(resolved, store, node);
        let mut batches = Kept::new(store.partial(stage, &last.key)?, around, writer, behind, &unchanged);
        let produced = checks::or_why((plan, store), node, last, || {
            self.produce(plan, store, node, &units, next, &mut batches)
        });
        let same = unchanged().and_then(|()| match &node.work {
            work if !resolved.offline => match server_of(work) {
                Some((server, identity)) => resolve::ensure_same(server, identity),
                None => Ok(()),
            },
            _ => Ok(()),
        });
        // Checked regardless of the result: an interrupted or failed unit also leaves batches, which may be based on
        // other inputs.
        let produced = match same {
            Ok(()) => produced?,
            Err(error) => {
                if error.is::<Changed>() || error.is::<AnotherModel>() {
                    batches.clear()?;
                    return Err(error);
                }
                produced.and(Err(error))?
            }
        };
        if let Some(why) = checks::why(&produced) {
            batches.note(&format!("not checked: {why}"));
        }
        if let Some(line) = self.loaded.as_ref().and_then(|loaded| loaded.model.shortage()) {
            batches.note(line);
        }
        let seconds = begun.elapsed().as_secs_f64();
        let cost = Cost { seconds: (seconds + batches.seconds_before()) / units.len() as f64 };
        let metadata = match server_of(&node.work) {
            Some((server, identity)) => vec![
                ("emoflow.model".to_string(), server.model.clone()),
                ("emoflow.revision".to_string(), identity.to_string()),
            ],
            None => node.model.map_or_else(Vec::new, |m| provenance(&self.resolved.models[m])),
        };
        writer.write(move || {
            let made: Vec<(&Unit, Tables)> = units.into_iter().zip(produced).collect();
            commit(store, stage, &made, &metadata, cost)?;
            drop(leases);
            Ok(Some(Stored { units: group, seconds }))
        })
    }

    /// Computes the tables of each of `units`.
    fn produce(
        &mut self,
        plan: &Plan,
        store: &Store,
        node: &Node,
        units: &[&Unit],
        next: Option<&Unit>,
        batches: &mut Kept,
    ) -> Result<Vec<Tables>> {
        let unit = units[0];
        let one = |name: &str, table: Table| Ok(vec![vec![(name.to_string(), table)]]);
        match &node.work {
            Work::Template { source, items } => {
                one("stories", template::run(source, &items[unit.stories.clone()])?)
            }
            Work::File(files) => {
                let ranges: Vec<_> = units.iter().map(|unit| unit.stories.clone()).collect();
                let tables = files.run(&ranges)?.into_iter();
                Ok(tables.map(|table| vec![("stories".to_string(), table)]).collect())
            }
            Work::Generate { source, items, seed, chat } => {
                let writer = self.resolved.models[node.model.expect("a writer")].identity;
                let seeds = writing::Seeds { run: *seed, writer: writer.to_string() };
                let items = &items[unit.stories.clone()];
                let memory = Memory::Generation {
                    rows: items.len().min(generate::BATCH),
                    max_new_tokens: source.max_new_tokens,
                };
                let model = self.model(node, memory)?;
                let written = generate::run(source, items, model, *chat, &writer.short(), &seeds, batches)?;
                Ok(vec![written_tables(written)])
            }
            Work::Served { server, source, items, seed, identity } => {
                ensure!(!self.resolved.offline, "{NOT_OFFLINE}");
                resolve::ensure_same(server, *identity)?;
                let seeds = writing::Seeds { run: *seed, writer: identity.to_string() };
                let items = &items[unit.stories.clone()];
                let writer = identity.short();
                let client = &mut self.client;
                let written = served::run(source, server, items, &writer, &seeds, client, batches)?;
                Ok(vec![written_tables(written)])
            }
            Work::Activations { params, chat, tokens } => {
                let ahead = self.ahead.take().filter(|ahead| ahead.is_of(node, stored(plan, unit, 0)));
                let (stories, read) = match ahead {
                    Some(ahead) => ahead.wait().map(|(stories, read)| (stories, Some(read)))?,
                    None => (input(plan, store, unit, 0)?, None),
                };
                let layers: Vec<Layer> = units.iter().filter_map(|u| u.layer).collect();
                let batch_tokens =
                    activations::largest_batch(params, *tokens, &stories, self.resolved.device.device)?;
                let streamed = node.model.is_some_and(|m| self.resolved.models[m].dtype_policy().streamed);
                let waiting = if streamed { activations::most_tokens(*tokens, &stories)? } else { 0 };
                self.model(node, Memory::Passes { batch_tokens, waiting })?;
                let model = &self.loaded.as_ref().expect("just loaded").model;
                let reading = {
                    let (params, chat, tokens) = (params.clone(), *chat, *tokens);
                    let tokenizer = model.tokenizer().clone();
                    let context = model.spec.context;
                    move |stories: &Table| {
                        let read = activations::read(&params, chat, stories, &tokenizer, context)?;
                        Ok(match tokens {
                            Some(tokens) => read.one_by_one(tokens),
                            None => read,
                        })
                    }
                };
                let read = match read {
                    Some(read) => read,
                    None => reading(&stories)?,
                };
                if let Some(line) = read.said(model.spec.context) {
                    batches.note(&line);
                }
                self.ahead = next.and_then(|next| Ahead::start(store, node, stored(plan, next, 0), reading));
                let tables = activations::run(params, &layers, &read.rows, model, batches)?;
                let with_exceptions = |table| {
                    let exceptions = (activations::EXCEPTIONS.to_string(), read.exceptions.clone());
                    vec![("activations".to_string(), table), exceptions]
                };
                Ok(tables.into_iter().map(with_exceptions).collect())
            }
            Work::Texts(files) => {
                let ranges: Vec<_> = units.iter().map(|unit| unit.stories.clone()).collect();
                let named = |[texts, broken]: [Table; 2]| {
                    vec![("texts".to_string(), texts), (BROKEN.to_string(), broken)]
                };
                Ok(files.run(&ranges)?.into_iter().map(named).collect())
            }
            Work::Written(texts) => one("texts", transcripts::written(texts)),
            Work::Prompts(prompts) => one("texts", transcripts::dialogues::of_prompts(prompts)?),
            Work::Dialogues => {
                one("texts", transcripts::dialogues::of_stories(&input(plan, store, unit, 0)?)?)
            }
            Work::Samples { cases, most } => {
                let (case, written) = (case_of(node, unit, cases)?, input(plan, store, unit, 0)?);
                one("texts", transcripts::samples::of_rollouts(case, &written, *most)?)
            }
            Work::Spans(params) => {
                let texts = readings::Text::of(&input(plan, store, unit, 0)?)?;
                let model =
                    self.model(node, Memory::Passes { batch_tokens: spans::BATCH_TOKENS, waiting: 0 })?;
                let [table, unread] = spans::run(&texts, params, model, batches)?;
                Ok(vec![vec![("spans".to_string(), table), (readings::UNREAD.to_string(), unread)]])
            }
            Work::Readings { params, set } => {
                let of = |stage: &str| of_stage(plan, unit, stage);
                let read = |at: usize| input(plan, store, unit, at);
                let vectors = of("vectors").into_iter().map(read).collect::<Result<Vec<_>>>()?;
                let set = VectorSet::from_tables(&set.model, &set.stories, set.n_layers, &vectors)?;
                let all = of("activations");
                let at_layer = |at: usize| {
                    let layer = Some(set.layers[at].layer);
                    let of = all.iter().filter(|&&i| plan.unit(unit.inputs[i]).layer == layer);
                    of.map(|&i| read(i)).collect::<Result<Vec<_>>>()
                };
                let directions = readings::directions(&set, params, &at_layer)?;
                let texts = readings::Text::of(&read(unit.inputs.len() - 1)?)?;
                let memory = Memory::Passes { batch_tokens: readings::BATCH_TOKENS, waiting: 0 };
                let model = self.model(node, memory)?;
                let [table, unread] = readings::run(&texts, &set, &directions, params, model, batches)?;
                Ok(vec![vec![("readings".to_string(), table), (readings::UNREAD.to_string(), unread)]])
            }
            Work::Rollouts { writing, chat, seed, set } => {
                let vectors = inputs(plan, store, unit)?;
                let set = VectorSet::from_tables(&set.model, &set.stories, set.n_layers, &vectors)?;
                let case = case_of(node, unit, &writing.cases)?;
                let rows = rollouts::write::BATCH.min(unit.stories.len());
                let memory = Memory::Generation { rows, max_new_tokens: writing.texts.max_new_tokens };
                let model = self.model(node, memory)?;
                one("rollouts", rollouts::run(writing, case, &set, (model, *chat), *seed, batches)?)
            }
            Work::Scores { .. } => {
                let written = input(plan, store, unit, 0)?;
                one("scores", self.score(node, unit, &written, batches)?)
            }
            Work::Neutral(params) => {
                let read = inputs(plan, store, unit)?;
                one("neutral", vectors::neutral(params, &read)?)
            }
            Work::Vectors { emotions, theirs: Some(files), .. } => {
                let ours = (!unit.inputs.is_empty()).then(|| input(plan, store, unit, 0)).transpose()?;
                let layer = unit.layer.context("a layer of vectors")?;
                one(
                    "vectors",
                    imported::run(&imported::known(files.read()?, emotions), layer, ours.as_ref())?,
                )
            }
            Work::Vectors { params, emotions, set, theirs: None } => {
                let asks = unit.inputs.iter().any(|id| plan.nodes[id.node].work.stage() == "neutral");
                let shards = unit.inputs.len() - usize::from(asks);
                let neutral = asks.then(|| input(plan, store, unit, shards)).transpose()?;
                // One shard at a time, so that all stories need no more memory than one shard.
                let read = (0..shards).map(|shard| input(plan, store, unit, shard));
                let table = vectors::run(params, read, emotions, neutral.as_ref())
                    .or_else(|error| match texts::lacking(plan, store, unit, emotions)? {
                        Some(why) => bail!(why),
                        None => Err(error),
                    })
                    .with_context(|| format!("stories of `{}` read by {}", set.stories, set.model))?;
                one("vectors", table)
            }
            Work::Analysis { analysis, chat, seed, set, vectors, .. } => {
                let at = |wanted: &'static str| of_stage(plan, unit, wanted);
                let read = |at: &usize| input(plan, store, unit, *at);
                let tables = at("vectors").iter().map(read).collect::<Result<Vec<_>>>()?;
                let set = VectorSet::from_tables(&set.model, &set.stories, set.n_layers, &tables)?;
                let neutral = at("neutral").first().map(read).transpose()?;
                let (shards, texts) = (at("activations"), at("stories"));
                let activations = Activations {
                    shards: shards.len(),
                    read: &|shard| read(&shards[shard]),
                    stories: &|shard| read(&texts[shard]),
                    params: vectors,
                    neutral: neutral.as_ref(),
                };
                let read_at = at("readings");
                let of_texts = |shard: usize| -> Result<(Table, Table)> {
                    let own = plan.unit(unit.inputs[read_at[shard]]);
                    Ok((read(&read_at[shard])?, input(plan, store, own, own.inputs.len() - 1)?))
                };
                let from =
                    |&at: &usize| plan.nodes[last_input(plan, unit.inputs[at]).node].id.subject.clone();
                let sources: Vec<String> =
                    read_at.iter().map(from).map(|subject| subject.to_string()).collect();
                let reads = Reads {
                    sources: &sources,
                    read: &of_texts,
                    stories: &|shard| read(&texts[shard]),
                    n_stories: texts.len(),
                };
                let pooled = at("spans");
                let neutrals = at("neutral");
                let neutral_at = |layer: Layer| {
                    let here = neutrals.iter().find(|&&at| plan.unit(unit.inputs[at]).layer == Some(layer));
                    here.map(read).transpose()
                };
                let spans = Spans {
                    count: pooled.len(),
                    read: &|shard| read(&pooled[shard]),
                    params: vectors,
                    neutral: &neutral_at,
                };
                let (texts_at, scores_at) = (at("rollouts"), at("scores"));
                let of_case = |case: usize| Ok((read(&texts_at[case])?, read(&scores_at[case])?));
                let rollouts = Rollouts { count: texts_at.len(), read: &of_case };
                let rollouts = (!texts_at.is_empty()).then_some(rollouts);
                // Analyses process at most a few thousand tokens at once with a model.
                let model = if node.model.is_some() { Some(self.model(node, Memory::Little)?) } else { None };
                let asked = analysis.inputs();
                let activations = asked.activations.then_some(activations);
                let reads = (!read_at.is_empty()).then_some(reads);
                let spans = (!pooled.is_empty()).then_some(spans);
                let (set, chat, seed) = (&set, *chat, *seed);
                let tables = if asked.batches {
                    let progress = &mut |_, _| {};
                    let input =
                        Input { set, activations, reads, spans, rollouts, model, chat, seed, progress };
                    analysis.run_in_batches(input, batches)?
                } else {
                    let progress = &mut *batches.around.at;
                    analysis.run(Input {
                        set,
                        activations,
                        reads,
                        spans,
                        rollouts,
                        model,
                        chat,
                        seed,
                        progress,
                    })?
                };
                Ok(vec![tables.into_iter().map(|(name, table)| (name, nameless(table))).collect()])
            }
            Work::Across { across, seed, pairs, .. } => {
                let place = node.units.iter().position(|other| other.key == unit.key);
                let pair = &pairs[place.context("a unit of the node")?];
                let model = if node.model.is_some() { Some(self.model(node, Memory::Little)?) } else { None };
                let progress = &mut *batches.around.at;
                Ok(vec![across::run((plan, store), unit, pair, across, model, *seed, progress)?])
            }
        }
    }

    /// Returns the node's model, loading it if necessary. Fails before loading if the model does not fit into memory
    /// with the node's work; other nodes of the same model may fit.
    fn model(&mut self, node: &Node, work: Memory) -> Result<&LanguageModel> {
        let Some(index) = node.model else { bail!("{} needs a model", node.name()) };
        let model = &self.resolved.models[index];
        let device = self.resolved.device.device;
        let load = || Passing(format!("load {}", model.shown()));
        if self.loaded.as_ref().is_some_and(|loaded| loaded.index != index) {
            self.loaded = None; // frees its memory before the next model is loaded
            heap::give_back();
        }
        let free = self.loaded.as_ref().map_or_else(|| FreeMemory::of(device), |loaded| loaded.free.clone());
        memory::check(&model.spec, model.dtype_policy(), work, device, free.as_ref()).with_context(load)?;
        if self.loaded.is_none() {
            if let Some(told) = self.told {
                told.note(&format!("{}: load {}", model.name, model.shown()));
            }
            let model =
                LanguageModel::load(&model.checkpoint, model.dtype_policy(), device).with_context(load)?;
            self.loaded = Some(Loaded { index, model, free });
        }
        Ok(&self.loaded.as_ref().expect("just loaded").model)
    }
}

/// Stores the units, using all cores, and then removes their batches.
fn commit(
    store: &Store,
    stage: &str,
    made: &[(&Unit, Tables)],
    metadata: &[(String, String)],
    cost: Cost,
) -> Result<()> {
    let one = |(unit, tables): &(&Unit, Tables)| -> Result<()> {
        match store.lookup(stage, &unit.key)? {
            Lookup::Hit(_) => Ok(()), // another process was faster
            Lookup::Miss(miss) => miss.commit(&unit.preimage, tables, metadata, cost).map(drop),
        }
    };
    // The batches belong to the last unit, so that they can be found while any unit is missing.
    if let Some((last, before)) = made.split_last() {
        before.par_iter().try_for_each(one)?;
        one(last)?;
    }
    made.iter().try_for_each(|(unit, _)| store.partial(stage, &unit.key).map(|partial| partial.clear()))
}

/// Key-value metadata of a model's results.
pub fn provenance(model: &Model) -> Vec<(String, String)> {
    [
        ("emoflow.model", model.origin.clone()),
        ("emoflow.revision", model.commit.clone().unwrap_or_else(|| model.identity.to_string())),
        ("emoflow.dtype", model.dtype.name().to_string()),
        ("emoflow.layer_convention", "resid_post, 0-based block".to_string()),
    ]
    .map(|(key, value)| (key.to_string(), value))
    .to_vec()
}

/// Number of work items in a group, for progress.
pub fn pieces(node: &Node, group: &[usize]) -> usize {
    let shards = if matches!(node.work, Work::File(_) | Work::Texts(_)) { group } else { &group[..1] };
    shards.iter().map(|&unit| node.units[unit].stories.len()).sum::<usize>().max(1)
}

/// The name of a work item.
pub fn piece(node: &Node) -> &'static str {
    match node.work.stage() {
        "stories" | "activations" => "stories",
        "texts" | "readings" | "spans" | "rollouts" | "scores" => "texts",
        "neutral" | "vectors" => "layers",
        _ => "steps",
    }
}

/// The tables of a unit of generated stories.
fn written_tables(written: writing::Written) -> Tables {
    vec![("stories".to_string(), written.stories), (REJECTED.to_string(), written.rejected)]
}

/// Removes the names of models and sources: they are not in keys, so they must not be in artifacts. Results add them
/// again.
fn nameless(mut table: Table) -> Table {
    table.columns.retain(|(name, _)| name != "model" && name != "stories");
    table
}
