//! The results of a run under `results/<name>/`: stories, tables, vectors, run.json and the report. Generated from
//! the store alone, never used as a cache.

mod across;
mod cells;
mod claims;
pub mod columns;
mod comparison;
mod criteria;
mod findings;
mod json_lines;
mod layers;
mod methods;
mod model;
mod norms;
mod origins;
mod owner;
mod page;
mod projection;
mod provenance;
mod reading;
pub mod runs;
mod scale;
mod stories;
mod texts;
mod unchecked;
mod written;

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use claims::CLAIMS;
use comparison::{COMPARISON, several_sets};
pub use owner::of_another;
pub use written::{Parts, parts, write_selected};

use crate::atomic::{self, replace};
use crate::execute::{self, Outcome, provenance};
use crate::explain::{self, Past};
use crate::interrupt;
use crate::lm::Dtype;
use crate::plan::key::{Digest, Key};
use crate::plan::{Node, Plan, Set, Unit, UnitId, Work};
use crate::progress::Progress;
use crate::record::{self, NodeOutcome, Run, State};
use crate::resolve::{Model, Resolved};
use crate::stages::analysis::Analysis;
use crate::store::table::{Column, Table};
use crate::store::{Entry, Lease, Leased, Lookup, Store, parquet};

/// Folders of tables, next to the report's figures.
const FOLDERS: [&str; 3] = ["stories", "tables", "vectors"];

/// Increment when the same artifacts give a different report.
const REPORT_VERSION: u32 = 13;

/// The report's node, which runs last: written if it is missing or does not match the store. `present`: the cached
/// units, if known.
pub fn bring_up_to_date(
    (resolved, plan, store): (&Resolved, &Plan, &Store),
    dir: &Path,
    present: Option<&HashSet<UnitId>>,
    outcome: &mut Outcome,
    progress: &dyn Progress,
) {
    let begun = Instant::now();
    let state = || report_state((resolved, plan, store), &execute::present(plan, store), dir);
    let known = present.map(|present| report_state((resolved, plan, store), present, dir));
    let (mut key, mut current) = known.unwrap_or_else(state);
    // Another run of the same experiment may be writing these files; the state is checked again afterwards.
    let _alone = if current { None } else { alone(store, dir) };
    if !current {
        (key, current) = state();
    }
    let mut node = NodeOutcome {
        name: "report".to_string(),
        key: Some(key),
        state: State::Cached,
        reason: String::new(),
        seconds: 0.0,
        units: 1,
        made: 0,
        absent: Vec::new(),
    };
    if !current {
        progress.begin("report", 1, "pages");
        match write_alone(resolved, plan, store, dir) {
            Ok(_) => {
                node.state = State::Ran;
                node.made = 1;
                node.reason = "new".to_string();
                progress.end(&format!("done in {:.1} s", begun.elapsed().as_secs_f64()));
            }
            Err(error) => {
                node.state = State::Failed;
                node.reason = format!("{error:#}");
                progress.end("FAILED");
                progress.note(&format!("error: report: {error:#}"));
            }
        }
        node.seconds = begun.elapsed().as_secs_f64();
    }
    outcome.nodes.push(node);
}

/// The lease of a results folder, after waiting for its holder. `None` if the cache is not writable or on an interrupt.
fn alone(store: &Store, dir: &Path) -> Option<Lease> {
    let dir = fs_err::canonicalize(dir).unwrap_or(dir.to_path_buf());
    let key = Digest::of(dir.as_os_str().as_encoded_bytes());
    loop {
        match store.lease("results", &key).ok()? {
            Leased::Mine(lease) => {
                let left = fs_err::read_dir(&dir).into_iter().flatten().flatten();
                let is_left = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(atomic::UNFINISHED);
                for folder in left.filter(|it| is_left(&it.file_name()) && it.path().is_dir()) {
                    let _ = fs_err::remove_dir_all(folder.path()); // left by a killed run
                }
                return Some(lease);
            }
            Leased::Other(_) if interrupt::asked() => return None,
            Leased::Other(_) => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Writes stories, tables, vectors, figures and the report from the store, after waiting for any other writer;
/// returns the report's path.
///
/// # Errors
/// Nothing is in the store yet, or writing fails. The existing results are then unchanged.
pub fn write(resolved: &Resolved, plan: &Plan, store: &Store, dir: &Path) -> Result<PathBuf> {
    let _alone = alone(store, dir);
    write_alone(resolved, plan, store, dir)
}

fn write_alone(resolved: &Resolved, plan: &Plan, store: &Store, dir: &Path) -> Result<PathBuf> {
    let shown = Shown { resolved, plan, store };
    let missing = shown.missing();
    let nodes = plan.nodes.iter().filter(|n| n.work.stage() != "activations").count();
    if missing.len() == nodes {
        bail!(
            "nothing of this experiment is in the cache `{}` yet: `emoflow run` it",
            store.root().display()
        );
    }
    fs_err::create_dir_all(dir)?;
    // Everything is written to a separate folder first; the existing results stay until the last table is written.
    let unfinished = atomic::folder_in(dir, atomic::UNFINISHED)?;
    let (place, dir) = (dir, unfinished.path());
    FOLDERS.iter().try_for_each(|folder| fs_err::create_dir(dir.join(folder)))?;
    let analyses = shown.analyses()?;
    written::write(&shown, &analyses, dir, &|_| true)?;
    let present = shown_nodes(plan, &execute::present(plan, store));
    let pairs = across::compared(&shown, None)?;
    let claims = claims::all(&shown, &analyses, &pairs)?;
    let comparison = match several_sets(&present) {
        true => Some(comparison::of(&shown, &analyses, &pairs, &claims)?),
        false => None,
    };
    if let Some(comparison) = &comparison {
        let nodes = plan.nodes.iter().filter(|n| matches!(n.work, Work::Analysis { .. }));
        let stem = dir.join("tables").join(COMPARISON);
        write_table(&comparison.table, &stem, &metadata(resolved, nodes))?;
    }
    if !claims.is_empty() {
        let nodes = plan.nodes.iter().filter(|n| matches!(n.work, Work::Analysis { .. }));
        let table = claims::table(&claims, &|model| claims::blocks(&shown, model))?;
        write_table(&table, &dir.join("tables").join(CLAIMS), &metadata(resolved, nodes))?;
    }
    let trends = scale::trends(&shown, &claims)?;
    across::write(&shown, &pairs, dir)?;
    scale::write(&shown, &trends, dir)?;
    let key = report_key(resolved, plan, &present);
    let summaries = [comparison.map(|c| c.section), layers::section(&claims)];
    let summaries = summaries.into_iter().flatten().collect();
    let declared = criteria::Declared::read(place)?;
    let findings = findings::section(&claims, &resolved.experiment.criteria, &declared);
    let mut report = page::report(&shown, &analyses, (findings, summaries), (&pairs, trends), key)?;
    let methods = methods::text(&shown, &claims)?;
    // Before the last chapter, on provenance.
    report.sections.insert(report.sections.len() - 1, methods::section(&methods));
    exchange(dir, &FOLDERS, place)?;
    replace(&place.join(methods::METHODS).with_extension("md"), format!("{methods}\n").as_bytes())?;
    replace(&place.join("references.bib"), methods::REFERENCES.as_bytes())?;
    crate::report::write(&report, place)
}

/// Writes `run.json`: what was run, on what, and with which outcome; `past` is its present content. If `outcome` has
/// no node yet, the run has only started, and its plan is also saved in `runs/`.
pub fn write_run(
    (resolved, plan, store): (&Resolved, &Plan, &Store),
    dir: &Path,
    past: &Past,
    outcome: &Outcome,
    took: Duration,
) -> Result<()> {
    let told = resolved.story_files().into_iter();
    let told = told.filter_map(|(source, files)| Some((source, files.dataset.as_ref()?, &files.digests)));
    let spoken = resolved.transcript_files().into_iter();
    let spoken = spoken.filter_map(|(source, files)| Some((source, files.dataset.as_ref()?, &files.digests)));
    let datasets = told.chain(spoken).map(|(source, pinned, digests)| record::Dataset {
        source: source.to_string(),
        repo: pinned.repo.clone(),
        commit: pinned.commit.clone(),
        files: pinned.files.clone(),
        digests: digests.clone(),
    });
    let mut served: BTreeMap<String, Vec<Digest>> = BTreeMap::new();
    for (source, identity) in resolved.served.iter().flatten() {
        let known = served.entry(source.clone()).or_default();
        if !known.contains(identity) {
            known.push(*identity);
        }
    }
    let device = &resolved.device;
    let header = record::Header::of_this(took, !outcome.nodes.is_empty());
    if header.ended.is_none() {
        fs_err::create_dir_all(dir)?;
        store.register_root(dir.parent().unwrap_or(Path::new(".")))?;
        criteria::Declared::remember(dir, &resolved.experiment.criteria, header.started)?;
        runs::remember(dir, &runs::Record::of(plan, header.started))?;
    }
    let whole = outcome.nodes.iter().filter(|node| node.absent.is_empty());
    let run = Run {
        file: fs_err::canonicalize(&resolved.experiment.file).ok(),
        experiment: serde_json::to_value(&resolved.experiment)?,
        models: resolved.models.iter().map(model::described).collect(),
        datasets: datasets.collect(),
        served,
        device: record::Device {
            kind: device.kind().to_string(),
            name: device.name.clone(),
            backend: device.backend.name().to_string(),
            reason: device.reason.clone(),
        },
        versions: record::Versions::here(),
        nodes: outcome.nodes.clone(),
        summary: outcome.summary(),
        interrupted: outcome.interrupted,
        plan: plan.nodes.iter().map(|n| (n.name(), n.units.iter().map(|u| u.key).collect())).collect(),
        stages: plan.nodes.iter().map(|n| n.work.stage().to_string()).collect(),
        layers: explain::layers(plan),
        run: Some(header),
        before: past.before(plan, &whole.map(|node| node.name.clone()).collect()),
        seconds: took.as_secs_f64(),
    };
    run.write(dir)
}

/// The sources of all results.
struct Shown<'a> {
    resolved: &'a Resolved,
    plan: &'a Plan,
    store: &'a Store,
}

/// An analysis with one set of parameters, and its tables over all sets of vectors that it was run on, by name.
struct Analysed {
    name: String,
    analysis: Analysis,
    tables: Vec<(String, Table)>,
}

impl Shown<'_> {
    /// Every analysis of the experiment, in its order, over all available sets of vectors. Variants with different
    /// parameters follow one another.
    fn analyses(&self) -> Result<Vec<Analysed>> {
        self.analyses_of(&|set| !set.is_check)
    }

    /// The analyses of the sets that check the arithmetic, in f32 or not, under the names of the checked models.
    fn checks(&self, in_f32: bool) -> Result<Vec<Analysed>> {
        self.analyses_of(&|set| set.is_check && self.is_in_f32(set) == in_f32)
    }

    fn is_in_f32(&self, set: &Set) -> bool {
        self.model(set).is_some_and(|model| model.compute_dtype == Dtype::F32)
    }

    /// The set itself, or the set that it checks.
    fn proper(&self, set: Set) -> Set {
        let checked = self.model(&set).and_then(|model| model.checks);
        let name = checked.map(|checked| self.resolved.models[checked].name.clone());
        Set { model: name.unwrap_or(set.model), ..set }
    }

    fn model(&self, set: &Set) -> Option<&Model> {
        self.resolved.models.iter().find(|model| model.name == set.model)
    }

    fn analyses_of(&self, wanted_set: &dyn Fn(&Set) -> bool) -> Result<Vec<Analysed>> {
        let mut all: Vec<Analysed> = Vec::new();
        for wanted in &self.resolved.experiment.analysis {
            let from = all.len();
            for node in &self.plan.nodes {
                let Work::Analysis { name, analysis, set, .. } = &node.work else { continue };
                if *name != wanted.name || !wanted_set(set) {
                    continue;
                }
                let entries = node.units.iter().map(|unit| self.entry(node, unit));
                // All layers or none, so that comparisons between layers always use the same layers.
                let Some(entries) = entries.collect::<Result<Option<Vec<_>>>>()? else { continue };
                let at = all[from..].iter().position(|a| a.analysis == **analysis).unwrap_or_else(|| {
                    let analysis = Analysis::clone(analysis);
                    all.push(Analysed { name: name.clone(), analysis, tables: Vec::new() });
                    all.len() - 1 - from
                });
                let set = self.proper(set.clone());
                for entry in entries {
                    for file in &entry.manifest.files {
                        let table_name = file.name.trim_end_matches(".parquet");
                        append(&mut all[from + at].tables, table_name, named(entry.read(table_name)?, &set))?;
                    }
                }
            }
        }
        Ok(all)
    }

    /// The nodes of the plan, without those that check a model's arithmetic.
    fn nodes(&self) -> impl Iterator<Item = &Node> {
        let checks: Vec<&str> =
            self.resolved.models.iter().filter(|m| m.checks.is_some()).map(|m| m.name.as_str()).collect();
        let is_shown =
            move |node: &&Node| node.id.subject.model().is_none_or(|model| !checks.contains(&model));
        self.plan.nodes.iter().filter(is_shown)
    }

    /// The concatenated tables of all units of `node`, in their order; `None` if any is missing.
    fn whole(&self, node: &Node) -> Result<Option<Table>> {
        self.whole_of(node, node.work.stage())
    }

    /// Table `name` of all units of `node`; `None` if any is missing, or if the node has no such table.
    fn whole_of(&self, node: &Node, name: &str) -> Result<Option<Table>> {
        let mut whole: Option<Table> = None;
        for unit in &node.units {
            let Some(entry) = self.entry(node, unit)? else { return Ok(None) };
            if entry.manifest.file(name).is_err() {
                return Ok(None);
            }
            let table = entry.read(name)?;
            match &mut whole {
                Some(whole) => whole.append(table)?,
                None => whole = Some(table),
            }
        }
        Ok(whole)
    }

    /// Names of the nodes that are not completely in the store, except activations, which are not shown.
    fn missing(&self) -> Vec<String> {
        let absent = |node: &&Node| {
            let stage = node.work.stage();
            stage != "activations" && node.units.iter().any(|unit| !self.store.contains(stage, &unit.key))
        };
        self.plan.nodes.iter().filter(absent).map(Node::name).collect()
    }

    fn entry(&self, node: &Node, unit: &Unit) -> Result<Option<Entry>> {
        Ok(match self.store.lookup(node.work.stage(), &unit.key)? {
            Lookup::Hit(entry) => entry.manifest.file(execute::NOT_CHECKED).is_err().then_some(entry),
            Lookup::Miss(_) => None,
        })
    }
}

/// Appends the rows of `table` to the table called `name`.
fn append(tables: &mut Vec<(String, Table)>, name: &str, table: Table) -> Result<()> {
    match tables.iter_mut().find(|(n, _)| n == name) {
        Some((_, all)) => all.append(table),
        None => {
            tables.push((name.to_string(), table));
            Ok(())
        }
    }
}

/// `table` with the set's names as first columns.
fn named(mut table: Table, set: &Set) -> Table {
    let column = |text: &str| Column::Str(vec![text.to_string(); table.rows()]);
    let names = [("model", column(&set.model)), ("stories", column(&set.stories))];
    let names = names.into_iter().chain([("variant", column(&set.variant()))]);
    table.columns.splice(0..0, names.map(|(name, column)| (name.to_string(), column)));
    table
}

/// The nodes that results are generated from, and which of their units are `present`.
fn shown_nodes<'a>(plan: &'a Plan, present: &HashSet<UnitId>) -> Vec<(&'a Node, Vec<bool>)> {
    let nodes = plan.nodes.iter().enumerate();
    let nodes = nodes.filter(|(_, node)| !matches!(node.work, Work::Activations { .. }));
    let there = |node, units| (0..units).map(|unit| present.contains(&UnitId { node, unit })).collect();
    nodes.map(|(index, node)| (node, there(index, node.units.len()))).collect()
}

/// A key over what the report shows: all cached artifacts, what is missing, and all printed text of the experiment.
fn report_key(resolved: &Resolved, plan: &Plan, present: &[(&Node, Vec<bool>)]) -> Key {
    let there = present.iter().flat_map(|(node, there)| {
        node.units.iter().zip(there).map(move |(u, there)| (node.name(), u.key, there))
    });
    let experiment = &resolved.experiment;
    let mut shown = format!(
        "{REPORT_VERSION} {} {:?} {:?} {:?} {:?} {:?}",
        env!("CARGO_PKG_VERSION"),
        experiment.name,
        experiment.description,
        experiment.analysis.iter().map(|a| (&a.name, &a.kind)).collect::<Vec<_>>(),
        across::printed(experiment),
        there.collect::<Vec<_>>()
    );
    for absent in &plan.absent {
        shown.push_str(&format!(" {:?}", (absent.subject.to_string(), &absent.why)));
    }
    for criterion in &experiment.criteria {
        shown.push_str(&format!(" {} {}", criterion.name, criteria::key(criterion)));
    }
    Digest::of(shown.as_bytes())
}

/// The report's key, and whether `dir` has everything that belongs to it: the page, and every table, set of vectors
/// and story source. `present`: the cached units.
pub fn report_state(
    (resolved, plan, store): (&Resolved, &Plan, &Store),
    present: &HashSet<UnitId>,
    dir: &Path,
) -> (Key, bool) {
    let present = shown_nodes(plan, present);
    let key = report_key(resolved, plan, &present);
    let page = fs_err::read_to_string(dir.join("report.html")).unwrap_or_default();
    let files = dir.join("figures").is_dir()
        && (!several_sets(&present) || written::in_tables(dir, COMPARISON))
        && present.iter().all(|(node, there)| there.contains(&false) || written::is_there(node, store, dir));
    (key, files && page.contains(&key.short()))
}

fn vectors_file(dir: &Path, set: &Set) -> PathBuf {
    let variant: String = set.axes.iter().map(|(axis, value)| format!("~{axis}={value}")).collect();
    dir.join("vectors").join(&set.model).join(format!("{}{variant}.parquet", set.stories))
}

/// Key-value metadata of a table generated from `nodes`: their keys, and the models, repositories and dtypes used.
fn metadata<'a>(resolved: &Resolved, nodes: impl IntoIterator<Item = &'a Node>) -> Vec<(String, String)> {
    let mut metadata: Vec<(String, Vec<String>)> = vec![("emoflow.key".to_string(), Vec::new())];
    for node in nodes {
        metadata[0].1.extend(node.units.iter().map(|u| u.key.to_string()));
        let named = |set: &Set| resolved.models.iter().find(|m| m.name == set.model);
        let models: Vec<_> = match &node.work {
            Work::Vectors { set, .. } | Work::Analysis { set, .. } => named(set).into_iter().collect(),
            Work::Across { pairs, .. } => {
                pairs.iter().flat_map(|pair| &pair.sets).filter_map(named).collect()
            }
            _ => node.model.map(|model| &resolved.models[model]).into_iter().collect(),
        };
        for (key, value) in models.into_iter().flat_map(provenance) {
            match metadata.iter_mut().find(|(k, _)| *k == key) {
                Some((_, values)) if values.contains(&value) => {}
                Some((_, values)) => values.push(value),
                None => metadata.push((key, vec![value])),
            }
        }
    }
    metadata.into_iter().map(|(key, values)| (key, values.join(", "))).collect()
}

fn to_parquet(table: &Table, metadata: &[(String, String)]) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    parquet::write(table, metadata, &mut bytes)?;
    Ok(bytes)
}

fn write_table(table: &Table, stem: &Path, metadata: &[(String, String)]) -> Result<()> {
    debug_assert!(
        columns::undescribed(table).is_empty(),
        "not described in src/results/columns.rs: {:?}",
        columns::undescribed(table)
    );
    let named = |extension: &str| PathBuf::from(format!("{}.{extension}", stem.display()));
    replace(&named("parquet"), &to_parquet(table, metadata)?)?;
    let mut csv = Vec::new();
    table.write_csv(&mut csv)?;
    replace(&named("csv"), &csv)
}

/// Replaces the `folders` of `dir` by those of `new`.
fn exchange(new: &Path, folders: &[&str], dir: &Path) -> Result<()> {
    let gone = new.join("gone");
    fs_err::create_dir(&gone)?;
    for folder in folders {
        let place = dir.join(folder);
        match fs_err::rename(&place, gone.join(folder)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => fs_err::rename(new.join(folder), place)?,
        }
    }
    Ok(())
}
