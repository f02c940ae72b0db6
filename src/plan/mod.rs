//! The plan: nodes in topological order, each unit with its key. A pure function of the resolved experiment;
//! knows nothing of what is stored.

mod absent;
mod across;
mod build;
mod checks;
mod id;
mod imports;
pub mod key;
mod preimage;
mod readings;
mod rollouts;
mod rounds;
mod select;
mod sources;
mod variants;

use std::collections::HashSet;
use std::ops::Range;
use std::panic::resume_unwind;
use std::sync::Arc;

pub use absent::Absent;
pub use across::Pair;
pub use build::{NEUTRAL, build, build_limited};
pub use id::{NodeId, Subject};
pub use select::{Nothing, Selection};
pub use sources::limit_notes;

use crate::exchange::read::Files as Theirs;
use crate::lm::{Chat, Layer};
use crate::stages::analysis::Analysis;
use crate::stages::rollouts::{Asked, Writing};
use crate::stages::scores::Scorer;
use crate::stages::stories::file::Files;
use crate::stages::stories::{Generate, Item, Server, Template};
use crate::stages::{activations, readings as reading, spans, texts, vectors};
use key::{Digest, Key};

/// Fewer are looked up by one thread: starting one takes as long as looking up some of them.
const UNITS_A_THREAD: usize = 64;

/// Everything a run could do, inputs before what needs them, and the nodes of one model together.
#[derive(Clone, Debug)]
pub struct Plan {
    pub nodes: Vec<Node>,
    /// What it was made without, because a model cannot be had.
    pub absent: Vec<Absent>,
    /// Names of analyses that are made with the report, of others' numbers.
    pub scale: Vec<String>,
}

/// One line of the plan: a stage applied to one set of inputs.
#[derive(Clone, Debug)]
pub struct Node {
    pub id: NodeId,
    pub work: Work,
    /// The model that has to be loaded: its place in `Resolved::models`.
    pub model: Option<usize>,
    pub units: Vec<Unit>,
}

impl Node {
    /// As printed and selected: `stories/<source>`, `activations/<model>/<source>`, ...
    pub fn name(&self) -> String {
        self.id.to_string()
    }
}

/// The smallest thing that is stored: one shard of stories, or one layer of something.
#[derive(Clone, Debug)]
pub struct Unit {
    pub key: Key,
    /// What the key is the digest of, as JSON.
    pub preimage: String,
    /// The stories of the source that it is about: a shard, or all of them.
    pub stories: Range<usize>,
    pub layer: Option<Layer>,
    pub inputs: Vec<UnitId>,
}

/// A unit's place in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnitId {
    pub node: usize,
    pub unit: usize,
}

/// What a node does: its kind and its parameters. A plan may have ten thousand of them: what is large is elsewhere, and
/// that of an analysis there once for all the sets of vectors that it is run on.
#[derive(Clone, Debug)]
pub enum Work {
    Template {
        source: Template,
        items: Vec<Item>,
    },
    Generate {
        source: Box<Generate>,
        items: Vec<Item>,
        seed: u64,
        chat: Chat,
    },
    Served {
        server: Box<Server>,
        source: Box<Generate>,
        items: Vec<Item>,
        seed: u64,
        identity: Digest,
    },
    File(Files),
    Activations {
        params: activations::Params,
        /// Of neutral text: so many tokens of each text are read one by one.
        tokens: Option<usize>,
        chat: Chat,
    },
    Neutral(vectors::Params),
    Vectors {
        params: vectors::Params,
        emotions: Vec<String>,
        set: Set,
        /// Files of others, where they are not made here.
        theirs: Option<Theirs>,
    },
    /// Transcripts of files.
    Texts(texts::Files),
    /// Dialogues among the stories that are its inputs.
    Dialogues,
    /// Prompts of the experiment file, each with its class.
    Prompts(Vec<(String, String)>),
    /// Conversations of which spans are pooled.
    Spans(spans::Params),
    /// Texts of the experiment file that are read token by token.
    Written(Vec<String>),
    Readings {
        params: reading::Params,
        set: Set,
    },
    /// Texts written under steering, a unit a case.
    Rollouts {
        writing: Box<Writing>,
        chat: Chat,
        seed: u64,
        set: Set,
    },
    /// The first of such texts in each cell as conversations, a unit a case.
    Samples {
        cases: Vec<Asked>,
        most: usize,
    },
    /// What such texts are found to be, a unit a case.
    Scores {
        scorer: Box<Scorer>,
        cases: Vec<Asked>,
        /// What a judge's chat template is told.
        chat: Chat,
        /// Of a judge at a server.
        identity: Option<Digest>,
    },
    /// `vectors`: how those of the set are made.
    Analysis {
        name: String,
        analysis: Arc<Analysis>,
        chat: Chat,
        seed: u64,
        set: Set,
        vectors: vectors::Params,
    },
    /// An analysis of two sets of vectors: a unit for each of `pairs`.
    Across {
        name: String,
        across: Arc<Analysis>,
        seed: u64,
        pairs: Vec<Pair>,
    },
}

/// One set of emotion vectors: who read which stories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    pub model: String,
    pub stories: String,
    /// Axes of the sweep on which it depends, each with its value here; none without a sweep.
    pub axes: Vec<(String, String)>,
    pub n_layers: usize,
    /// Whether it is there only to check the arithmetic of another one.
    pub is_check: bool,
}

impl Set {
    /// The axes in words, as in the column `variant` of results: `from_token=50, denoise=none`; empty without a sweep.
    pub fn variant(&self) -> String {
        self.axes.iter().map(|(axis, value)| format!("{axis}={value}")).collect::<Vec<_>>().join(", ")
    }
}

impl Work {
    /// The stage's name: the folder of its artifacts, and the first word of its key.
    pub fn stage(&self) -> &'static str {
        match self {
            Work::Template { .. } | Work::Generate { .. } | Work::Served { .. } | Work::File(_) => "stories",
            Work::Activations { .. } => "activations",
            Work::Neutral(_) => "neutral",
            Work::Vectors { .. } => "vectors",
            Work::Texts(_) | Work::Written(_) | Work::Dialogues | Work::Prompts(_) | Work::Samples { .. } => {
                "texts"
            }
            Work::Spans(_) => "spans",
            Work::Readings { .. } => "readings",
            Work::Rollouts { .. } => "rollouts",
            Work::Scores { .. } => "scores",
            Work::Analysis { analysis, .. } => analysis.kind(),
            Work::Across { across, .. } => across.kind(),
        }
    }
}

impl Plan {
    /// The unit at `id`.
    pub fn unit(&self, id: UnitId) -> &Unit {
        &self.nodes[id.node].units[id.unit]
    }

    /// The units of which `is_there` holds. Several threads ask at once: an answer waits for the disk.
    pub fn units_where(&self, is_there: impl Fn(&Node, &Unit) -> bool + Sync) -> HashSet<UnitId> {
        let ids = |node: usize| (0..self.nodes[node].units.len()).map(move |unit| UnitId { node, unit });
        let all: Vec<UnitId> = (0..self.nodes.len()).flat_map(ids).collect();
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let holds = |id: &UnitId| is_there(&self.nodes[id.node], self.unit(*id));
        std::thread::scope(|scope| {
            let ask = |ids: &'_ [UnitId]| {
                let ids = ids.to_vec();
                scope.spawn(move || ids.into_iter().filter(holds).collect::<Vec<_>>())
            };
            let parts: Vec<_> =
                all.chunks(all.len().div_ceil(threads).max(UNITS_A_THREAD)).map(ask).collect();
            parts
                .into_iter()
                .flat_map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        })
    }

    /// The node called `name`.
    pub fn node(&self, name: &str) -> Option<usize> {
        self.nodes.iter().position(|n| n.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_thousand_nodes_take_little_room() {
        assert!(
            size_of::<Node>() <= 352,
            "{} bytes, of which {} are the work",
            size_of::<Node>(),
            size_of::<Work>()
        );
    }
}
