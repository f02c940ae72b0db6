//! Parses a file into a checked experiment or the list of all its problems. Reads that one file and nothing else.

use std::cell::{OnceCell, RefCell};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::analyses::Analyses;
use super::imports::VectorKeys;
use super::root::Root;
use super::{
    Analysis, Dialogues, Experiment, Import, Judge, Layers, Model, Setting, Source, SourceKind, Span,
    Transcripts, Variant, keys, sweep, validate,
};
use crate::lm::Wrap;
use crate::params::problem::{Problem, Problems, quoted, set_bases};
use crate::params::tree::{self, Node, Value};
use crate::params::{Params as _, Reader, Scope};
use crate::secrets;
use crate::stages::analysis;

/// Larger files are rejected.
const LARGEST: u64 = 1_000_000;

impl Experiment {
    /// Reads and checks an experiment file.
    ///
    /// Errors: all problems of the file at once.
    pub fn read(path: &Path) -> Result<Experiment, Problems> {
        Experiment::read_with(path, &[], &|_| Vec::new())
    }

    /// Like [`Experiment::read`], with `--set` texts (`key.path=value`) applied to the file before it is checked, and
    /// with the problems that `outside` finds in what the file refers to, so that all are shown together.
    pub fn read_with(path: &Path, sets: &[String], outside: &Outside) -> Result<Experiment, Problems> {
        Experiment::read_in(path, &project_root(path), sets, outside)
    }

    /// The same for a file whose relative paths start at `root`, wherever the file is.
    pub fn read_in(
        path: &Path,
        root: &Path,
        sets: &[String],
        outside: &Outside,
    ) -> Result<Experiment, Problems> {
        parse(path, root, &text(path)?, sets, outside)
    }

    /// Checks a text. `file` is shown in problems and gives the default name; relative paths start at `root`.
    pub fn parse(file: &Path, root: &Path, text: &str) -> Result<Experiment, Problems> {
        Experiment::parse_with(file, root, text, &[])
    }

    /// The same with `--set` texts.
    pub fn parse_with(file: &Path, root: &Path, text: &str, sets: &[String]) -> Result<Experiment, Problems> {
        parse(file, root, text, sets, &|_| Vec::new())
    }

    /// What it refers to outside the file.
    pub fn asked(&self) -> Asked<'_> {
        Asked {
            root: &self.root,
            layers: Some(&self.layers),
            models: &self.models,
            emotions: Some(&self.emotions),
            stories: &self.stories,
            neutral: self.neutral.as_ref().map(|kind| (kind, &self.neutral_span)),
            transcripts: &self.transcripts,
            dialogues: &self.dialogues,
            judges: &self.judges,
            imports: &self.imports,
            analysis: &self.analysis,
            wrap: Some(self.activations.wrap),
        }
    }

    /// Its variants, each with its settings, or the experiment itself if it has no sweep.
    pub fn variants(&self) -> Vec<(&[Setting], &Experiment)> {
        match self.sweep.as_slice() {
            [] => vec![(&[], self)],
            variants => variants.iter().map(|v| (v.settings.as_slice(), &v.experiment)).collect(),
        }
    }

    /// Problems that a later phase found in this experiment, with its text for display.
    pub fn problems(&self, list: Vec<Problem>) -> Problems {
        Problems::new(self.file.clone(), self.text.clone(), self.sets.clone(), list)
    }
}

/// Finds problems in what a file refers to: checkpoints and story files.
pub type Outside<'a> = dyn Fn(&Asked) -> Vec<Problem> + 'a;

/// The parts of an experiment that refer to something outside it, as far as they could be read.
pub struct Asked<'a> {
    /// The project folder.
    pub root: &'a Path,
    pub layers: Option<&'a Layers>,
    pub models: &'a [Model],
    pub emotions: Option<&'a [String]>,
    pub stories: &'a [Source],
    pub neutral: Option<(&'a SourceKind, &'a Span)>,
    pub transcripts: &'a [Transcripts],
    pub dialogues: &'a [Dialogues],
    pub judges: &'a [Judge],
    pub imports: &'a [Import],
    pub analysis: &'a [Analysis],
    /// How stories are presented to the model.
    pub wrap: Option<Wrap>,
}

fn parse(
    file: &Path,
    root: &Path,
    text: &str,
    sets: &[String],
    outside: &Outside,
) -> Result<Experiment, Problems> {
    let sink = RefCell::default();
    let experiment = tree::parse(text, &sink).and_then(|mut tree| {
        let sets_at = sets.iter().zip(set_bases(text, sets));
        let fixed: Vec<_> =
            sets_at.filter_map(|(set, base)| tree::set(&mut tree, set, base, &sink)).collect();
        let combinations = sweep::combinations(tree, &fixed, &sink);
        let swept = !combinations[0].settings.is_empty();
        // What several variants have in common is checked once.
        let seen = RefCell::new(Vec::new());
        let outside = |asked: &Asked| {
            let neutral = asked.neutral.map(|(kind, _)| kind.clone());
            let emotions = asked.emotions.map(<[_]>::to_vec);
            let wanted = (emotions, asked.stories.to_vec(), neutral, asked.analysis.to_vec(), asked.wrap);
            let wanted =
                (wanted, asked.transcripts.to_vec(), asked.dialogues.to_vec(), asked.imports.to_vec());
            if seen.borrow().contains(&wanted) {
                return Vec::new();
            }
            seen.borrow_mut().push(wanted);
            outside(asked)
        };
        let checked = combinations.into_iter().map(|combination| {
            let scope = Scope {
                problems: RefCell::default(),
                top: keys::top(),
                project: root.into(),
                file: Rc::new(combination.tree),
                emotions: OnceCell::new(),
                kept: OnceCell::new(),
            };
            let experiment = check(&scope, file, text, sets, &outside);
            sink.borrow_mut().extend(scope.problems.into_inner());
            Some(Variant { settings: combination.settings, experiment: experiment? })
        });
        let variants: Vec<Option<Variant>> = checked.collect(); // reports the problems of all
        let variants = variants.into_iter().collect::<Option<Vec<Variant>>>()?;
        let first = variants.first()?.experiment.clone();
        Some(Experiment { sweep: if swept { variants } else { Vec::new() }, ..first })
    });
    let list = sink.into_inner();
    match experiment {
        Some(experiment) if list.is_empty() => Ok(experiment),
        _ => Err(Problems::new(file.into(), text.into(), sets.into(), list)),
    }
}

/// Reads every part, even after problems in earlier ones.
fn check(scope: &Scope, file: &Path, text: &str, sets: &[String], outside: &Outside) -> Option<Experiment> {
    let (tree, project) = (&scope.file, scope.project.as_path());
    let root = Reader::top(tree.clone(), scope);
    note_secrets(tree, &root);
    let parts = Root::parts(&root);
    validate::validate(&parts, &root);
    let stories = parts.stories.as_deref().unwrap_or_default();
    let neutral = parts.neutral.as_ref().ok().and_then(Option::as_ref);
    let asked = Asked {
        root: project,
        layers: parts.layers.as_ref().ok(),
        models: parts.models.as_deref().unwrap_or_default(),
        emotions: parts.emotions.as_deref().ok(),
        stories,
        neutral: neutral.map(|source| (&source.kind, &source.span)),
        transcripts: parts.transcripts.as_deref().unwrap_or_default(),
        dialogues: parts.dialogues.as_deref().unwrap_or_default(),
        judges: parts.judges.as_deref().unwrap_or_default(),
        imports: parts.vectors.as_ref().map(|vectors| vectors.imports.as_slice()).unwrap_or_default(),
        analysis: parts.analysis.as_ref().map(|all| all.single.as_slice()).unwrap_or_default(),
        wrap: parts.activations.as_ref().ok().map(|activations| activations.wrap),
    };
    scope.problems.borrow_mut().extend(outside(&asked));
    let Root {
        name,
        description,
        seed,
        shard,
        check_precision,
        date,
        layers,
        models,
        emotions,
        stories,
        neutral,
        transcripts,
        dialogues,
        judges,
        activations,
        vectors: VectorKeys { made: vectors, imports },
        analysis: Analyses { mut single, across, scale },
        criteria,
        sweep: (),
    } = Root::whole(parts).ok()?;
    let stem = || file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    for analysis in &mut single {
        if let analysis::Analysis::Scenario(scenario) = &mut analysis.kind
            && let Some(named) = &scenario.judge
        {
            scenario.who = judges.iter().find(|judge| judge.name == *named).map(|judge| judge.who.clone());
        }
    }
    let name = name.unwrap_or_else(stem);
    root.check_name(&name, &(0..0)).ok()?;
    Some(Experiment {
        file: file.into(),
        root: project.into(),
        text: text.into(),
        sets: sets.into(),
        name,
        description,
        seed,
        shard,
        check_precision,
        date,
        layers,
        models,
        emotions,
        stories,
        neutral_span: neutral.as_ref().map_or(0..0, |source| source.span.clone()),
        neutral: neutral.map(|source| source.kind),
        transcripts,
        dialogues,
        judges,
        activations,
        vectors,
        imports,
        analysis: single,
        across,
        scale,
        criteria,
        sweep: Vec::new(),
    })
}

/// Reports values that look like secrets: the file's content ends up in `run.json`, in keys and in the cache.
fn note_secrets(node: &Node, root: &Reader<'_>) {
    /// These are checked where they are read, and their values are never shown.
    const ELSEWHERE: [&str; 2] = ["url", "api_key_env"];
    for entry in node.entries() {
        let texts: Vec<&str> = match &entry.node.value {
            Value::Text(text) => vec![text],
            Value::List(items) => items.iter().filter_map(|item| item.text()).collect(),
            _ => Vec::new(),
        };
        let secret = texts.iter().any(|text| secrets::is_secret(&entry.key, text));
        if secret && !ELSEWHERE.contains(&entry.key.as_str()) {
            let message = format!("{} looks like a key or a password", quoted(&entry.key));
            let hint = "secrets do not belong in the file: `api_key_env` names the environment variable that holds a server's \
                 key";
            root.note(Problem::at(entry.key_span.clone(), message).hint(hint));
        }
        note_secrets(&entry.node, root);
    }
}

/// The file's text, limited in size.
fn text(path: &Path) -> Result<String, Problems> {
    let unreadable = |problem| Problems::unreadable(path.into(), problem);
    let io = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => unreadable(
            Problem::whole("there is no such file")
                .hint("give the path of an experiment file, such as experiments/quickstart.toml"),
        ),
        _ => unreadable(Problem::whole(error.to_string())),
    };
    let mut file = fs_err::File::open(path).map_err(io)?;
    if file.metadata().map_err(io)?.is_dir() {
        let problem = Problem::whole("this is a folder");
        return Err(unreadable(problem.hint("give the path of an experiment file in it")));
    }
    let mut bytes = Vec::new();
    file.by_ref().take(LARGEST + 1).read_to_end(&mut bytes).map_err(io)?;
    if bytes.len() as u64 > LARGEST {
        let problem =
            Problem::whole(format!("more than {} kB: this is not an experiment file", LARGEST / 1000));
        return Err(unreadable(
            problem.hint("long lists of texts belong in a story file, `[stories.<name>.file]`"),
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let byte = error.as_bytes()[at];
        let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
        let line = text[..at].matches('\n').count() + 1;
        let problem =
            Problem::at(at..at + 1, format!("not UTF-8: byte {at}, in line {line}, is 0x{byte:02x}"));
        Problems::new(path.into(), text, Vec::new(), vec![problem.hint("save the file as UTF-8")])
    })
}

/// The nearest ancestor folder of a file that marks a project; otherwise the file's own folder.
pub fn project_root(file: &Path) -> PathBuf {
    let own = match file.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let own = fs_err::canonicalize(&own).unwrap_or(own);
    let marked =
        |folder: &&Path| ["Cargo.toml", ".git", "emoflow.toml"].iter().any(|mark| folder.join(mark).exists());
    own.ancestors().find(marked).unwrap_or(&own).to_path_buf()
}
